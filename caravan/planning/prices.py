"""What an hour of a GPU or of a node costs, and who says so. Pure: files and settings were read before.

The nearer word counts: a setting for every GPU, then the price list's for the node's class, its pool or the GPU's
model, the profile's for the model, the node's own meta, the price list's for everything, the catalogue's typical one.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from caravan.planning.catalogue import gpu_like, matches_model, same_model, whole_of
from caravan.values.job import NodeFacts
from caravan.values.prices import MOST_USD, Prices, Rate

META_GPU: Final = "caravan_usd_per_gpu_hour"
"""Key of a node's meta: US dollars for an hour of one of its GPUs."""
META_NODE: Final = "caravan_usd_per_hour"
"""Key of a node's meta: US dollars for an hour of the whole node."""


class Price(NamedTuple):
    """US dollars an hour and who says so; None: nobody does, and `source` says what to give."""

    usd: float | None
    source: str


def usd_per_hour(model: str, prices: Prices, node: NodeFacts | None = None) -> Price:
    """The price of an hour of one GPU of that model, on that node where one is given."""
    found = next(_said_of_gpu(model, prices, node), None)
    if found is None and (part := whole_of(model)) is not None:
        whole, share = part
        found = next(_said_of_gpu(whole, prices, node), None)
        if found is not None and found.usd is not None:
            found = Price(found.usd * share, f"{share:.0%} of {whole}, {found.source}")
    if found is not None:
        return found
    known = gpu_like(model)
    if known is None or known.usd_per_hour is None:
        give = f'give one in prices.toml ([gpus] "{model}" = …) or with CARAVAN_USD_PER_GPU_HOUR'
        return Price(None, f"no price is known for {model}; {give}")
    return Price(known.usd_per_hour, "typical list price, on demand, late 2025")


def node_usd_per_hour(node: NodeFacts, prices: Prices) -> Price:
    """The price of an hour of a node without GPUs, the whole of it."""
    for rate, whose in _rates(node, prices):
        if rate.usd_per_hour is not None:
            return Price(rate.usd_per_hour, f"{whose} in {_list(prices)}")
    told = meta_price(node, META_NODE)
    if told is not None:
        return Price(told, f"{META_NODE} of {node.name}")
    if prices.listed is not None and prices.listed.usd_per_hour is not None:
        return Price(prices.listed.usd_per_hour, f"for every node in {_list(prices)}")
    give = f"give usd_per_hour in prices.toml or {META_NODE} in the node's meta"
    return Price(None, f"no price is known for {node.name}; {give}")


def meta_price(node: NodeFacts, key: str) -> float | None:
    """A price that the node's meta says; None where it says none that can be one."""
    try:
        value = float(node.meta.get(key, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= MOST_USD else None


def unusable_meta(node: NodeFacts) -> tuple[str, ...]:
    """What the node's meta says of prices that can't be used, each as a line."""
    keys = (key for key in (META_GPU, META_NODE) if key in node.meta and meta_price(node, key) is None)
    return tuple(f"{key} of node {node.name} is no price: {node.meta[key][:40]!r}" for key in keys)


def _said_of_gpu(model: str, prices: Prices, node: NodeFacts | None) -> Iterator[Price]:
    """What is said of a GPU's price, the nearest word first."""
    for rate, whose in _rates(node, prices):
        yield from _by_rate(model, rate, f"{whose} in {_list(prices)}", node)
    listed = prices.listed
    if listed is not None and (price := _by_model(model, listed.gpus)) is not None:
        yield Price(price, f"for this model in {_list(prices)}")
    if (price := _by_model(model, prices.by_model)) is not None:
        yield Price(price, "your price for this model")
    if prices.usd_per_gpu_hour is not None:
        yield Price(prices.usd_per_gpu_hour, "your price")
    if node is not None:
        yield from _by_meta(node)
    if listed is not None:
        rest = listed.model_copy(update={"gpus": {}})
        yield from _by_rate(model, rest, f"for every GPU in {_list(prices)}", node)


def _by_meta(node: NodeFacts) -> Iterator[Price]:
    each, whole, count = meta_price(node, META_GPU), meta_price(node, META_NODE), _gpus(node)
    if each is not None:
        yield Price(each, f"{META_GPU} of {node.name}")
    elif whole is not None and count:
        yield Price(whole / count, f"{META_NODE} of {node.name}, for each of {count}")


def _rates(node: NodeFacts | None, prices: Prices) -> Iterator[tuple[Rate, str]]:
    """The price list's prices of the node's class and of its pool."""
    if node is None or prices.listed is None:
        return
    if (by_class := prices.listed.node_classes.get(node.node_class)) is not None:
        yield by_class, f"for node class {node.node_class}"
    if (by_pool := prices.listed.node_pools.get(node.node_pool)) is not None:
        yield by_pool, f"for node pool {node.node_pool}"


def _by_rate(model: str, rate: Rate, whose: str, node: NodeFacts | None) -> Iterator[Price]:
    if (price := _by_model(model, rate.gpus)) is not None:
        yield Price(price, f"this model {whose}")
    if rate.usd_per_gpu_hour is not None:
        yield Price(rate.usd_per_gpu_hour, whose)
    count = _gpus(node) if node is not None else 0
    if rate.usd_per_hour is not None and count:
        yield Price(rate.usd_per_hour / count, f"{whose}, each of {count} GPUs of a node")


def _by_model(model: str, prices: Mapping[str, float]) -> float | None:
    """The price by the model's full name, else by the longest name that means it; a slice only by its own."""
    exact = next((price for name, price in prices.items() if same_model(name, model)), None)
    if exact is not None or whole_of(model) is not None:
        return exact
    meant = [name for name in prices if name.strip() and matches_model(name, model)]
    return prices[max(meant, key=len)] if meant else None


def _gpus(node: NodeFacts) -> int:
    return sum(d.count for d in node.devices if d.type == "gpu")


def _list(prices: Prices) -> str:
    return prices.where or "the price list"
