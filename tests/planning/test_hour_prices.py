"""Whose price counts: the nearer word, and never nothing for what nobody knows."""

import pytest

from caravan.planning.prices import META_GPU, META_NODE, node_usd_per_hour, unusable_meta, usd_per_hour
from caravan.values.job import DeviceGroup, NodeFacts
from caravan.values.prices import PriceList, Prices, Rate

A100 = "NVIDIA A100-SXM4-80GB"


def _node(count: int = 8, **changes: object) -> NodeFacts:
    devices = (DeviceGroup(vendor="nvidia", type="gpu", model=A100, count=count),) if count else ()
    return NodeFacts(id="1", name="n1", node_class="fast", node_pool="gpus", devices=devices).model_copy(update=changes)


def _listed(**tables: object) -> Prices:
    return Prices(listed=PriceList.model_validate(tables), where="prices.toml")


def test_the_nearer_word_counts() -> None:
    everything = {
        "usd_per_gpu_hour": 1,
        "gpus": {"A100": 2},
        "node_pools": {"gpus": {"usd_per_gpu_hour": 3}},
        "node_classes": {"fast": {"usd_per_hour": 32}},
    }
    node = _node(meta={META_GPU: "5"})
    assert usd_per_hour(A100, _listed(**everything), node).usd == 4  # a share of the node
    del everything["node_classes"]
    assert usd_per_hour(A100, _listed(**everything), node).usd == 3
    del everything["node_pools"]
    found = usd_per_hour(A100, _listed(**everything), node)
    assert found == (2, "for this model in prices.toml")
    del everything["gpus"]
    assert usd_per_hour(A100, _listed(**everything), node) == (5, f"{META_GPU} of n1")
    assert usd_per_hour(A100, _listed(**everything), _node()).usd == 1
    assert "typical" in usd_per_hour(A100, _listed(), _node()).source
    assert usd_per_hour(A100, Prices(usd_per_gpu_hour=7), node).usd == 7


def test_a_nodes_price_is_shared_by_its_gpus() -> None:
    assert usd_per_hour(A100, Prices(), _node(meta={META_NODE: "16"})).usd == 2


@pytest.mark.parametrize("said", ["-1", "nan", "inf", "dear", "", "1e12"])
def test_what_the_meta_says_wrongly_is_not_used_and_said(said: str) -> None:
    node = _node(meta={META_GPU: said})
    assert "typical" in usd_per_hour(A100, Prices(), node).source
    assert META_GPU in unusable_meta(node)[0]


def test_a_slice_costs_its_part_of_what_is_said() -> None:
    slice_ = f"{A100} MIG 3g.40gb"
    found = usd_per_hour(slice_, _listed(gpus={"A100": 2}))
    assert found.usd is not None
    assert 0.9 < found.usd < 1.1
    assert A100 in found.source
    assert usd_per_hour(slice_, _listed(gpus={slice_: 0.7})).usd == 0.7


def test_a_node_without_gpus_is_priced_whole() -> None:
    node = _node(0, meta={META_NODE: "0.4"})
    assert node_usd_per_hour(node, Prices()).usd == 0.4
    assert node_usd_per_hour(node, _listed(usd_per_hour=0.2)).usd == 0.4
    assert node_usd_per_hour(_node(0), _listed(usd_per_hour=0.2)).usd == 0.2
    by_class = _listed(usd_per_hour=0.2, node_classes={"fast": Rate(usd_per_hour=0)})
    assert node_usd_per_hour(node, by_class).usd == 0
    unknown = node_usd_per_hour(_node(0), Prices())
    assert unknown.usd is None
    assert META_NODE in unknown.source


def test_what_nobody_prices_is_not_free() -> None:
    found = usd_per_hour("Frobnicator 9000", Prices())
    assert found.usd is None
    assert "prices.toml" in found.source
