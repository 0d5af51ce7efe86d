"""What serving takes: the formulas against published figures, and what must hold for any shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.serving import kv_bytes_per_token, longest_context, memory_of, spreads, weight_bytes
from caravan.planning.shapes import listed_shape
from caravan.values.serving import ServeOptions, Weights
from caravan.values.shape import Latent, ModelShape

H100_MIB = 81_559


def shape(name: str) -> ModelShape:
    found = listed_shape(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "kib"),
    [("Qwen/Qwen3-32B", 256), ("Qwen/Qwen3-14B", 160), ("Qwen/Qwen3-8B", 144), ("Qwen/Qwen3-30B-A3B", 96)],
)
def test_the_cache_of_a_token(name: str, kib: int) -> None:
    """Two for key and value, by blocks, by heads of keys, by 128 numbers of 2 bytes."""
    assert kv_bytes_per_token(shape(name)) == kib * 1024
    assert kv_bytes_per_token(shape(name), fp8=True) == kib * 512


def test_heads_of_keys_are_shared_out_and_then_copied() -> None:
    qwen = shape("Qwen/Qwen3-30B-A3B")  # four of them
    assert [kv_bytes_per_token(qwen, gpus=n) / 1024 for n in (1, 2, 4, 8)] == [96, 48, 24, 24]


def test_a_compressed_cache_is_on_every_gpu() -> None:
    small = shape("Qwen/Qwen3-8B").model_copy(
        update={"latent": Latent(kv_rank=512, nope_dim=128, rope_dim=64, v_dim=128)}
    )
    assert kv_bytes_per_token(small, gpus=1) == kv_bytes_per_token(small, gpus=8) == 36 * 576 * 2


@pytest.mark.parametrize(
    ("name", "weights", "gb"),
    [
        ("Qwen/Qwen3-32B", Weights.BF16, 65.5),
        ("Qwen/Qwen3-32B", Weights.AWQ, 19.3),
        ("Qwen/Qwen3-14B", Weights.AWQ, 9.98),
        ("Qwen/Qwen3-30B-A3B", Weights.BF16, 61.1),
    ],
)
def test_weights_are_as_large_as_the_published_checkpoints(name: str, weights: Weights, gb: float) -> None:
    assert weight_bytes(shape(name), weights) / 1e9 == pytest.approx(gb, rel=0.005)


@pytest.mark.parametrize(
    ("name", "weights", "gpus", "tokens"),
    [
        # vLLM 0.30.0, one H100 80GB, utilisation 0.9: its own "GPU KV cache size"
        ("Qwen/Qwen3-8B", Weights.BF16, 1, 377_024),
        ("Qwen/Qwen3-8B", Weights.FP8, 1, 430_272),
        # vLLM 0.9, four H100, vllm issue 21348
        ("Qwen/Qwen3-235B-A22B", Weights.FP8, 4, 178_880),
    ],
)
def test_the_cache_is_as_large_as_vllm_said_within_the_margin(
    name: str, weights: Weights, gpus: int, tokens: int
) -> None:
    """With the 1024 requests and 8192 tokens a step that vLLM takes by itself on such a GPU."""
    options = ServeOptions(max_num_seqs=1024, gpu_memory_utilization=0.9)
    found = memory_of(shape(name), weights, gpus=gpus, context=16_384, options=options, memory_mib=H100_MIB)
    assert found.kv_tokens is not None
    off_gib = (found.kv_tokens - tokens) * found.kv_bytes_per_token / (1 << 30)
    assert -found.margin < off_gib < found.margin


def test_what_is_not_known_of_a_gpu_speaks_not_against_it() -> None:
    found = memory_of(shape("Qwen/Qwen3-8B"), Weights.BF16, gpus=1, context=32_768)
    assert (found.budget, found.kv_tokens, found.fits, longest_context(found)) == (None, None, True, 0)


def test_the_longest_context_is_one_that_fits() -> None:
    model = shape("Qwen/Qwen3-8B")
    found = memory_of(model, Weights.BF16, gpus=1, context=131_072, memory_mib=24_576)
    longest = longest_context(found)
    assert not found.fits
    assert longest % 1024 == 0
    assert memory_of(model, Weights.BF16, gpus=1, context=longest, memory_mib=24_576).fits
    assert not memory_of(model, Weights.BF16, gpus=1, context=longest + 1024, memory_mib=24_576).fits


@pytest.mark.parametrize(
    ("name", "weights", "counts"),
    [
        ("Qwen/Qwen3-32B", Weights.BF16, (1, 2, 4, 8)),
        ("Qwen/Qwen3-4B", Weights.FP8, (1, 2, 4)),  # 9728 / 8 is 9.5 blocks of 128
        ("Qwen/Qwen3-30B-A3B", Weights.FP8, (1, 2)),  # experts of 768: a quarter is 192 (vllm pull request 44763)
        ("Qwen/Qwen3-30B-A3B", Weights.BF16, (1, 2, 4, 8)),
    ],
)
def test_over_how_many_gpus(name: str, weights: Weights, counts: tuple[int, ...]) -> None:
    assert spreads(shape(name), weights, 8) == counts
    assert spreads(shape(name), weights, 1) == (1,)


NAMES = st.sampled_from(
    ["Qwen/Qwen3-32B", "Qwen/Qwen3-14B", "Qwen/Qwen3-8B", "Qwen/Qwen3-4B", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-30B-A3B"]
)


@given(NAMES, st.sampled_from(list(Weights)), st.integers(1, 1 << 20), st.integers(1, 1 << 20), st.booleans())
def test_more_context_never_needs_less(name: str, weights: Weights, one: int, other: int, fp8: bool) -> None:
    options = ServeOptions(kv_fp8=fp8)
    short, long = (
        memory_of(shape(name), weights, gpus=1, context=c, options=options, memory_mib=H100_MIB).needed
        for c in sorted((one, other))
    )
    assert short <= long


@given(NAMES, st.sampled_from(list(Weights)), st.integers(1024, 262_144))
def test_more_gpus_never_need_more_of_each(name: str, weights: Weights, context: int) -> None:
    """But for the buffers by which they talk, which one alone has not."""
    counts = spreads(shape(name), weights, 8)
    found = [memory_of(shape(name), weights, gpus=n, context=context, memory_mib=H100_MIB) for n in counts]
    assert [m.needed - m.runtime for m in found] == sorted((m.needed - m.runtime for m in found), reverse=True)
    assert [m.needed for m in found[1:]] == sorted((m.needed for m in found[1:]), reverse=True)


@given(NAMES, st.sampled_from(list(Weights)), st.integers(1, 256), st.integers(512, 65_536))
def test_more_at_once_never_needs_less(name: str, weights: Weights, requests: int, tokens: int) -> None:
    less = ServeOptions(max_num_seqs=requests, max_num_batched_tokens=tokens)
    more = ServeOptions(max_num_seqs=requests + 1, max_num_batched_tokens=tokens + 1)
    one, other = (memory_of(shape(name), weights, gpus=1, context=8192, options=o).needed for o in (less, more))
    assert one <= other
