"""Why a model server does not come up: real words of vLLM, torch, docker and Nomad, and what is made of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.diagnosis.serving import why_not_served


@pytest.mark.parametrize(
    ("line", "cause", "advice", "final"),
    [
        (
            "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (0.71 GiB). Based on the available memory, the "
            "estimated maximum model length is 5632. Try increasing `gpu_memory_utilization`",
            "says 5632 tokens would",
            "--context 5632",
            True,
        ),
        ("ValueError: No available memory for the cache blocks.", "the cache does not fit", "--context", True),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 96.00 MiB",
            "weights do not fit",
            "--gpus",
            True,
        ),
        (
            "ValueError: Weight input_size_per_partition = 192 is not divisible by weight quantization block_k = 128.",
            "can't be shared out",
            "--gpus",
            True,
        ),
        (
            "ValueError: Free memory on device (3.2/23.58 GiB) on startup is less than desired GPU memory utilization",
            "something else holds memory",
            "gpu_memory_utilization",
            False,
        ),
        ("GatedRepoError: 401 Client Error.", "to nobody without a token", "HF_TOKEN", True),
        ("vllm: error: unrecognized arguments: --frobnicate", "does not know --frobnicate", "--image", True),
        ("OSError: [Errno 28] No space left on device", "the disk is full", "disk_mb", True),
        ("Failed to pull `vllm/vllm-openai:v0`: manifest unknown", "can't get the image", "registry_mirrors", False),
        (
            "Missing: nomad.var.block(nomad/jobs/caravan-model@default.global)",
            "waits for its Nomad variable",
            "--new-key",
            False,
        ),
        (
            'OCI runtime create failed: exec: "vllm": executable file not found in $PATH: unknown',
            "no such program",
            "--set command",
            True,
        ),
        (
            "failed to launch command with executor: rpc error: code = Unknown desc = failed to start command path="
            '"/x" --- args=["/x"]: fork/exec /x: no such file or directory',
            "no such program",
            "--image",
            True,
        ),
        (
            'rpc error: code = Unknown desc = binary "/no/such" could not be found',
            "no such program",
            "--set command",
            True,
        ),
        ("fork/exec /opt/serve: exec format error", "another kind of processor", "--image", True),
        ("RuntimeError: Failed to infer device type", "sees no GPU", "doctor", True),
    ],
)
def test_causes(line: str, cause: str, advice: str, final: bool) -> None:
    found = why_not_served(["INFO loading", line, "RuntimeError: Engine core initialization failed."])
    assert found is not None
    assert cause in found.cause
    assert advice in found.advice
    assert found.final is final
    assert found.line


def test_what_nobody_knows_is_no_cause() -> None:
    assert why_not_served(["INFO all is well", "RuntimeError: Engine core initialization failed."]) is None


@given(st.lists(st.text(max_size=200), max_size=20))
def test_any_words_are_taken(lines: list[str]) -> None:
    found = why_not_served(lines)
    assert found is None or (found.cause and found.advice)


@given(st.text(alphabet="{}%s unrecognized arguments: --x", max_size=80))
def test_braces_in_a_log_are_no_fields(text: str) -> None:
    why_not_served([f"error: unrecognized arguments: {text}"])
