"""The benchmark of speeds: units become seconds of an update, and a fit finds constants again."""

from typing import Any

import pytest

from bench.speed import BOUNDS, START, cases, error, fit, table
from caravan.planning.speed import step_time


def _row(**changes: Any) -> dict[str, Any]:
    return {
        "id": "a-1", "source_group": "a", "gpu": "NVIDIA A100-SXM4-80GB", "throughput": 1000.0,
        "throughput_unit": "tokens/s", "seq_len": 1024, "seq_kind": "exact", "arch_family": "decoder",
        "params_b": 7.6, "hidden": 3584, "layers": 28, "heads": 28, "kv_heads": 4, "intermediate": 18944,
        "vocab": 152064, "mlp_gated": True, "head_dim": 128, "tied": False, "moe_experts": 0, "moe_topk": 0,
        "method": "lora", "lora_rank": 8, "lora_targets": ["q", "v"], "trainable_params": None,
        "compute_dtype": "bf16", "quant_bits": None, "micro_batch": 2, "grad_accum": 4, "grad_checkpointing": True,
        "flash_attention": True, "compiled": False, "fused_ce": False, "optimizer": "adamw", "gpus": 1,
        "parallel": "none", "offload": False, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 8.192),
        ({"gpus": 4, "parallel": "ddp"}, 4 * 8.192),
        ({"gpus": 4, "parallel": "ddp", "throughput_unit": "tokens/s per GPU"}, 8.192),
        ({"throughput": 3.0, "throughput_unit": "s/iter (8 micro-batches)"}, 3.0),
        ({"throughput": 2.0, "throughput_unit": "min per 1k iterations"}, 0.48),
        ({"throughput": 16.0, "throughput_unit": "samples/s"}, 0.5),
    ],
)
def test_units(changes: dict[str, Any], seconds: float) -> None:
    (found,) = cases([_row(**changes)])
    assert found.seconds == pytest.approx(seconds)


@pytest.mark.parametrize("changes", [{"seq_len": None}, {"gpu": None}, {"arch_family": "cnn-detector"}])
def test_rows_that_say_too_little(changes: dict[str, Any]) -> None:
    assert cases([_row(**changes)]) == []


def test_a_fit_finds_back_what_made_the_figures() -> None:
    true = START._replace(gemm=START.gemm * 0.7)
    found = [
        case._replace(seconds=step.seconds)
        for batch in (1, 4, 16)
        for length in (512, 4096)
        for case in cases([_row(micro_batch=batch, seq_len=length)])
        if (step := step_time(case.work, case.gpu, true)) is not None
    ]
    before = max(abs(error(case, START)) for case in found)
    fitted = fit(found, START)
    assert max(abs(error(case, fitted)) for case in found) < before / 3
    assert all(low <= getattr(fitted, name) <= high for name, (low, high) in BOUNDS.items())
    assert "all" in table([(case, error(case, fitted)) for case in found])
