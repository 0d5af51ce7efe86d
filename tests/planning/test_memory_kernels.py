"""What libraries of kernels change of a training's memory, by their names."""

import pytest

from caravan.planning.memory.kernels import Kernels, kernels_named


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("HF Trainer + FSDP1 + Liger", Kernels(fused_ce=True)),
        ("--use_liger_kernel=true", Kernels(fused_ce=True)),
        ("cut-cross-entropy", Kernels(fused_ce=True)),
        ("Unsloth", Kernels(in_place_ce=True, narrow=True)),
        ("trainer with flash cross-entropy", Kernels(in_place_ce=True)),
        ("litgpt 0.5", Kernels(gathered_load=True, own_adapters=True)),
        ("bench of a litgpt model", Kernels()),
        ("HF Trainer + PEFT", Kernels()),
        ("", Kernels()),
    ],
)
def test_kernels_are_known_by_name(words: str, found: Kernels) -> None:
    assert kernels_named(words) == found


@pytest.mark.parametrize("words", ["use_liger_kernel=False", "use_liger_kernel: 0", "without Liger", "no unsloth"])
def test_kernels_that_are_off_do_not_count(words: str) -> None:
    assert kernels_named(words) == Kernels()
