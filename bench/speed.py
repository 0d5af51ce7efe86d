"""How good the speed estimate is: runs it over published speeds and prints by how much it errs.

usage: python -m bench.speed --data DIR [--fit] [--loso] [--worst N]

DIR holds `measured.jsonl`. `--fit` fits the constants anew and prints them; `--loso` fits them for each source on all
the others and scores that source with them.
"""

import argparse
import json
import math
import random
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from caravan.planning.catalogue import CATALOGUE, Gpu, gpu_like, gpu_named, matches_model
from caravan.planning.speed import FITTED, SPREAD, Constants, Work, step_time
from caravan.values.shape import Family, ModelShape

_FILLED: Final = {"dataset_max": 0.15, "max_cap": 0.35}
"""Mean length of samples as a share of the length that a row gives, where that is the longest one or a cap."""

START: Final = Constants(
    gemm=0.70,
    attention=0.40,
    scores=14.0,
    plain=40.0,
    adapter=10.0,
    logits=10.0,
    launch=1.2e-3,
    launch_adapter=0.6,
    launch_sharded=0.6,
    dequant=15.0,
    link=0.5,
    exposed=0.4,
    paging=12.0,
    offload=1.5,
    compiled=0.6,
    expert=0.6,
)
"""Where a fit begins and what it stays near: what one would say of these without any of the figures."""
BOUNDS: Final = {
    "gemm": (0.3, 0.85),
    "attention": (0.2, 0.7),
    "scores": (6, 30),
    "plain": (15, 90),
    "adapter": (2, 40),
    "logits": (5, 20),
    "launch": (2e-4, 5e-3),
    "launch_adapter": (0.05, 2),
    "launch_sharded": (0.05, 2),
    "dequant": (5, 60),
    "link": (0.1, 0.9),
    "exposed": (0.05, 0.95),
    "paging": (4, 40),
    "offload": (0.8, 4),
    "compiled": (0.2, 1),
    "expert": (0.2, 1),
}
"""Within what a constant means what it is called."""


class Case(NamedTuple):
    """A published speed: seconds of one update of `work`."""

    id: str
    source: str
    work: Work
    gpu: Gpu
    seconds: float


def cases(rows: Iterable[Mapping[str, Any]]) -> list[Case]:
    """The rows that give a speed of a model that the formula knows, on a known GPU type, with a length."""
    found = []
    for row in rows:
        gpu = _gpu(row)
        if not row.get("throughput") or gpu is None or not row.get("seq_len") or row["seq_kind"] == "avg":
            continue
        work = _work(row)
        if step_time(work, gpu) is None:
            continue
        found.append(Case(row["id"], row["source_group"], work, gpu, _seconds(row, work)))
    return found


def _gpu(row: Mapping[str, Any]) -> Gpu | None:
    """The row's GPU; of several types that a name may mean, the one that is made for many where there are many."""
    name = row.get("gpu") or ""
    meant = [g for g in CATALOGUE if matches_model(name, g.name)]
    if row["gpus"] > 1 and name and gpu_named(name) is None and meant:
        return max(meant, key=lambda g: g.link_gbs)
    return gpu_like(name)


def _seconds(row: Mapping[str, Any], work: Work) -> float:
    """Seconds of an update, whatever the row's unit."""
    value, unit = float(row["throughput"]), str(row["throughput_unit"])
    update = work.micro_batch * work.grad_accum
    if unit.startswith("min per 1k"):
        return value * 60 / 1000 * work.grad_accum
    if unit.startswith("s/iter"):
        return value
    if unit.startswith("tokens/s"):
        every = update * work.seq_len
        return every / value if "per GPU" in unit or work.gpus == 1 else every * work.gpus / value
    if unit.startswith("samples/s"):
        return update * work.gpus / value
    raise ValueError(f"{row['id']}: no such unit: {unit}")


def _work(row: Mapping[str, Any]) -> Work:
    length = max(1, round(row["seq_len"] * _FILLED.get(row["seq_kind"], 1.0)))
    adapter = row["method"] != "full"
    trained = row.get("trainable_params")
    if row["method"] == "freeze" and not trained:
        trained = 2 * row["hidden"] * row["layers"]
    return Work(
        shape=_shape(row),
        full=not adapter,
        rank=(row.get("lora_rank") or 0) if adapter else 0,
        adapted=len(row.get("lora_targets") or ()) or 7,
        dora=row["method"] == "dora",
        trainable_b=trained / 1e9 if trained else None,
        compute=row["compute_dtype"],
        quant_bits=row["quant_bits"],
        micro_batch=row["micro_batch"],
        seq_len=length,
        grad_accum=row["grad_accum"] or 1,
        checkpointing=bool(row["grad_checkpointing"]),
        flash=bool(row["flash_attention"]),
        compiled=bool(row["compiled"]),
        fused_ce=bool(row["fused_ce"]),
        optimizer=row["optimizer"],
        gpus=row["gpus"],
        parallel=row["parallel"],
        offload=bool(row["offload"]),
    )


def _shape(row: Mapping[str, Any]) -> ModelShape:
    family = {"decoder": Family.DECODER, "encoder": Family.ENCODER}.get(row["arch_family"], Family.CNN)
    return ModelShape(
        params_b=row["params_b"],
        hidden=row["hidden"] or 1,
        layers=row["layers"] or 1,
        heads=row["heads"] or 1,
        kv_heads=row["kv_heads"] or 1,
        intermediate=row["intermediate"] or 0,
        vocab=row["vocab"] or 0,
        gated=bool(row["mlp_gated"]),
        family=family,
        head_dim=row["head_dim"] or 0,
        tied=row["tied"],
        experts=row["moe_experts"] or 0,
        experts_per_token=row["moe_topk"] or 0,
        moe_intermediate=(row["intermediate"] or 0) if row["moe_experts"] else 0,
    )


def error(case: Case, constants: Constants = FITTED) -> float:
    """Logarithm of the foretold time over the measured one."""
    step = step_time(case.work, case.gpu, constants)
    return math.inf if step is None else math.log(step.seconds / case.seconds)


def _loss(found: Sequence[Case], weights: Mapping[str, float], constants: Constants) -> float:
    """Mean absolute error, each source counted by the root of its rows; far constants cost a little."""
    total = sum(weights[c.source] * min(abs(error(c, constants)), 1.5) for c in found)
    stay = sum(math.log(now / start) ** 2 for now, start in zip(constants, START, strict=True) if now > 0)
    return total / sum(weights[c.source] for c in found) + 0.003 * stay


def fit(found: Sequence[Case], start: Constants, sweeps: int = 12) -> Constants:
    """The constants under which the cases err least: one after the other, in ever smaller steps."""
    counts = Counter(case.source for case in found)
    weights = {source: 1 / math.sqrt(count) for source, count in counts.items()}
    best, least = start, _loss(found, weights, start)
    size, order = 0.5, list(BOUNDS)
    for sweep in range(sweeps):
        random.Random(sweep).shuffle(order)
        before = least
        for name in order:
            for factor in (math.exp(size), math.exp(-size)):
                low, high = BOUNDS[name]
                tried = best._replace(**{name: min(high, max(low, getattr(best, name) * factor))})
                loss = _loss(found, weights, tried)
                if loss < least:
                    best, least = tried, loss
        if before - least < 1e-3 * least:
            size /= 2
    return best


def _line(name: str, errors: Sequence[float]) -> str:
    size = sorted(abs(math.expm1(e)) for e in errors)
    inside = sum(abs(e) <= math.log(SPREAD) for e in errors) / len(errors)
    bias = math.expm1(statistics.median(errors))
    return (
        f"{name:24} n {len(size):4}  median {statistics.median(size):6.1%}  p90 {size[int(0.9 * (len(size) - 1))]:6.1%}"
        f"  inside the range {inside:6.1%}  tends to {bias:+6.1%}"
    )


def table(pairs: Sequence[tuple[Case, float]]) -> str:
    """The figures by source, and over all."""
    by = defaultdict(list)
    for case, found in pairs:
        by[case.source].append(found)
    lines = [_line(source, errors) for source, errors in sorted(by.items())]
    return "\n".join([*lines, _line("all", [found for _, found in pairs])])


def left_out(found: Sequence[Case]) -> list[tuple[Case, float]]:
    """Each source's errors with constants that were fitted without it."""
    pairs = []
    for source in sorted({c.source for c in found}):
        constants = fit([c for c in found if c.source != source], START)
        pairs += [(c, error(c, constants)) for c in found if c.source == source]
    return pairs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with measured.jsonl")
    parser.add_argument("--fit", action="store_true", help="fit the constants anew, and print them")
    parser.add_argument("--loso", action="store_true", help="also each source with constants fitted without it")
    parser.add_argument("--worst", type=int, default=0, help="also print the N worst rows")
    options = parser.parse_args()
    lines = (options.data / "measured.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for line in lines if (row := json.loads(line)).get("throughput")]
    found = cases(rows)
    constants = fit(found, START) if options.fit else FITTED
    if options.fit:
        print("\n".join(f"    {name}: float = {value:.4g}" for name, value in constants._asdict().items()))
    pairs = [(case, error(case, constants)) for case in found]
    print(table(pairs))
    print(f"{len(rows) - len(found)} of {len(rows)} rows with a speed say no length, no GPU, or are convolutions")
    if options.loso:
        print("\nleave one source out\n" + table(left_out(found)))
    for case, off in sorted(pairs, key=lambda p: -abs(p[1]))[: options.worst]:
        how = f"b{case.work.micro_batch} s{case.work.seq_len} {case.work.parallel}"
        print(f"  {math.expm1(off):+8.1%} {case.id} measured {case.seconds:.3g} s {how}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
