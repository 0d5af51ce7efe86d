"""Every cause that a job change mends has a first step on a scene that suits it; the others have none."""

from typing import Any

import pytest

from caravan.diagnosis.entry import Fixable
from caravan.diagnosis.plainly import can_do, would_do
from caravan.diagnosis.repair import LADDERS
from caravan.diagnosis.taxonomy import TAXONOMY
from caravan.values.environment import BaseImage, RepoEnvironment, Wanted
from caravan.values.failure import Diagnosis, FailureClass, Repair, Requery, RetryElsewhere, Wait
from caravan.values.job import DriverFacts, HostVolume
from caravan.values.places import SourceLine
from caravan.values.plan import Resume
from caravan.values.repo import ScriptOption
from tests.diagnosis.repair_scenes import OPTIONS, diffs, facts, gpu, node, plan, profile, rungs

F = FailureClass

NVIDIA = {"docker": DriverFacts(runtimes=("runc", "nvidia"))}
CARDS = facts(
    node("n1", 64_000, devices=(gpu("NVIDIA A40", 45, 4),), drivers=NVIDIA),
    node("n2", 64_000, devices=(gpu("NVIDIA A40", 45, 4),), drivers=NVIDIA),
)
OLD_CARDS = facts(
    node("n1", 64_000, devices=(gpu("Tesla T4", 15, 4).model_copy(update={"driver": "470.82.01"}),)),
    node("n2", 64_000, devices=(gpu("NVIDIA A40", 45, 4).model_copy(update={"driver": "470.82.01"}),)),
)
VOLUMES = facts(node(host_volumes={"datasets": HostVolume(path="/srv/data")}))
ARCHES = facts(
    node("n1", attributes={"cpu.arch": "arm64"}),
    node("n2", attributes={"cpu.arch": "amd64"}),
)
POOLS = facts(node(node_pool="gpu", datacenter="dc7"))
IMAGES = (
    BaseImage(image="pt:2.1.2-cuda11.8-devel", torch="2.1.2", cuda="11.8", nvcc=True, tools=True),
    BaseImage(image="python:3.11", python="3.11", tools=True),
)
SHARES = (
    *OPTIONS,
    ScriptOption(flag="--attn_implementation", default="flash_attention_2"),
    ScriptOption(flag="--ddp_timeout", type="int", default=1800),
    ScriptOption(flag="--save_total_limit", type="int"),
    ScriptOption(flag="--report_to", default="wandb"),
    ScriptOption(flag="--eval_strategy", default="steps"),
    ScriptOption(flag="--save_strategy", default="epoch"),
    ScriptOption(flag="--load_best_model_at_end", type="bool", default=True),
    ScriptOption(flag="--dataset_text_field", default="text"),
    ScriptOption(flag="--tf32", type="bool", default=True),
    ScriptOption(flag="--save_model", type="bool", default=False),
    ScriptOption(flag="--warmup_ratio", type="float", default=0.0),
    ScriptOption(flag="--num_train_epochs", type="float", default=3.0),
)

Scene = tuple[dict[str, Any], dict[str, Any], Any]
"""What is set in the plan, what is handed to the case beside it, and what the first change or repair is."""

SCENES: dict[F, Scene] = {
    F.JOBSPEC_INVALID: ({"shm_mb": 64}, {"details": {"field": "config.shm_size"}}, {"shm_mb": None}),
    F.NOMAD_OBJECT_NOT_FOUND: ({}, {}, Requery),
    F.CLUSTER_TARGET_MISMATCH: (
        {"node_pool": "gqu"},
        {"where": POOLS, "details": {"kind": "node_pool"}},
        {"node_pool": "gpu"},
    ),
    F.PLACEMENT_CONSTRAINT_FILTERED: (
        {"constraints": [{"attribute": "${node.class}", "value": "x"}, {"attribute": "${meta.y}", "value": "1"}]},
        {"details": {"attribute": "${node.class}"}},
        {"constraints": [{"attribute": "${meta.y}", "operator": "=", "value": "1"}]},
    ),
    F.PLACEMENT_RESOURCES_EXHAUSTED: ({}, {}, Wait),
    F.PLACEMENT_GPU_UNAVAILABLE: ({"resources.gpus": 1}, {"where": CARDS}, Wait),
    F.DRIVER_UNAVAILABLE: ({"driver": "exec"}, {}, {"driver": "docker"}),
    F.VOLUME_UNAVAILABLE: (
        {"mounts": [{"kind": "host", "source": "dataset", "destination": "/data"}]},
        {"where": VOLUMES, "details": {"volume": "dataset", "kind": "host"}},
        {"mounts": [{"kind": "host", "source": "datasets", "destination": "/data", "read_only": True}]},
    ),
    F.DEPLOY_PROGRESS_DEADLINE: ({"job_type": "service"}, {}, {"job_type": "batch"}),
    F.INTERRUPTED_EXTERNALLY: ({}, {}, RetryElsewhere),
    F.IMAGE_NOT_FOUND: (
        {"image": "img/train:9"},
        {"where": facts(node(drivers={"docker": DriverFacts(images=("img/train:2",))}))},
        {"image": "img/train:2"},
    ),
    F.IMAGE_PULL_TRANSIENT: ({}, {"details": {"kind": "rate"}}, {"image_pull_timeout_s": 1200}),
    F.GPU_NODE_BROKEN: ({"resources.gpus": 1}, {"where": CARDS, "node_name": "n1"}, RetryElsewhere),
    F.CUDA_DRIVER_TOO_OLD: (
        {"resources.gpus": 1},
        {"where": OLD_CARDS},
        {"setup.pip": ["torch<2.1"]},
    ),
    F.BIND_MOUNT_REJECTED: (
        {"mounts": [{"kind": "bind", "source": "/srv/data", "destination": "/data"}]},
        {"where": VOLUMES, "details": {"kind": "disabled"}},
        {"mounts": [{"kind": "host", "source": "datasets", "destination": "/data", "read_only": True}]},
    ),
    F.PORT_CONFLICT: (
        {"ports": [{"label": "p", "static": 8080}]},
        {"details": {"port": "8080"}},
        {"ports": [{"label": "p", "static": None}]},
    ),
    F.CONTAINER_NAME_CONFLICT: ({"container_name": "c"}, {}, {"container_name": None}),
    F.ENTRYPOINT_NOT_FOUND: (
        {},
        {"files": ["src/train.py"], "details": {"kind": "script", "path": "train.py"}},
        {"command": ["src/train.py"]},
    ),
    F.ARCH_MISMATCH: ({}, {"where": ARCHES, "details": {"image_arch": "linux/amd64"}}, {"exclude_nodes": ["n1"]}),
    F.ARTIFACT_DOWNLOAD_FAILED: ({}, {"details": {"kind": "network"}}, Wait),
    F.HOST_MEMORY_OOM: ({"resources.memory_mb": 1024}, {}, {"resources.memory_mb": 2048}),
    F.DISK_FULL: ({}, {"details": {"path": "/alloc/data"}}, {"resources.disk_mb": 3072}),
    F.OUTPUT_PERMISSION_DENIED: (
        {"training.output_dir": "/out"},
        {"details": {"path": "/out/model"}},
        {"training.output_dir": "${NOMAD_ALLOC_DIR}/data/outputs"},
    ),
    F.CUDA_OOM: (
        {"resources.gpus": 1, "training.micro_batch": 8},
        {"where": facts(node(devices=(gpu("Card", 24),)))},
        {"training.micro_batch": 4, "training.grad_accum": 2},
    ),
    F.GPU_MEMORY_CONTENDED: ({"resources.gpus": 1}, {"where": CARDS, "node_name": "n2"}, RetryElsewhere),
    F.SHM_TOO_SMALL: ({"resources.memory_mb": 40_000}, {}, {"shm_mb": 20_000}),
    F.CUDA_DEVICE_UNAVAILABLE: ({"resources.gpus": 1}, {"where": CARDS}, {"docker.runtime": "nvidia"}),
    F.GPU_COUNT_MISMATCH: (
        {"resources.gpus": 2, "launch.nproc": 4, "launch.launcher": "torchrun"},
        {"where": CARDS},
        {"launch.nproc": 2},
    ),
    F.TORCH_BUILD_MISMATCH: (
        {"resources.gpus": 1},
        {"where": CARDS, "details": {"kind": "capability", "capability": "sm_120"}},
        {"setup.pip": ["torch>=2.7"]},
    ),
    F.BF16_UNSUPPORTED: (
        {"resources.gpus": 1, "training.precision": "bf16"},
        {"where": OLD_CARDS, "details": {"dtype": "bf16"}},
        {"training.precision": "fp16"},
    ),
    F.FLASH_ATTN_UNUSABLE: ({}, {"details": {"kind": "abi"}}, {"training.attn": "sdpa"}),
    F.BITSANDBYTES_SETUP: ({}, {"details": {"kind": "binary"}}, {"setup.pip": ["bitsandbytes>=0.43.2"]}),
    F.BUILD_TOOLCHAIN_MISSING: ({}, {"details": {"program": "g++"}}, {"setup.apt": ["build-essential"]}),
    F.INDEX_OUT_OF_RANGE: (
        {"training.max_len": 1024},
        {"details": {"kind": "position", "size": "512"}},
        {"training.max_len": 512},
    ),
    F.NUMERIC_DIVERGENCE: ({"training.precision": "fp16"}, {}, {"training.precision": "bf16"}),
    F.NCCL_TIMEOUT: (
        {"resources.gpus": 2},
        {"where": CARDS, "node_name": "n1"},
        {"exclude_nodes": ["n1"], "env.NCCL_DEBUG": "INFO"},
    ),
    F.NCCL_ERROR: (
        {"resources.gpus": 2},
        {"where": CARDS, "lines": ("NET/IB : Unable to open device mlx5_0",)},
        {"env.NCCL_IB_DISABLE": "1"},
    ),
    F.RENDEZVOUS_PORT_IN_USE: (
        {"launch.launcher": "torchrun", "launch.master_port": 29500},
        {"details": {"port": "29500"}},
        {"launch.master_port": None},
    ),
    F.RENDEZVOUS_UNREACHABLE: (
        {"launch.launcher": "torchrun", "launch.rdzv_endpoint": "head:29400"},
        {"details": {"host": "head"}},
        {"launch.rdzv_endpoint": None},
    ),
    F.LAUNCHER_MISCONFIGURED: (
        {"resources.gpus": 2},
        {"where": CARDS, "details": {"kind": "environment", "variable": "RANK"}},
        {"launch.launcher": "torchrun", "launch.nproc": 2},
    ),
    F.PROCESS_HANG: (
        {"training.num_workers": 4},
        {},
        {"training.num_workers": 0, "env.TOKENIZERS_PARALLELISM": "false", "env.OMP_NUM_THREADS": "1"},
    ),
    F.PROCESS_CRASH_NATIVE: ({"training.num_workers": 4}, {}, {"training.num_workers": 0}),
    F.MISSING_PYTHON_PACKAGE: ({}, {"details": {"module": "yaml"}}, {"setup.pip": ["PyYAML"]}),
    F.PACKAGE_VERSION_CONFLICT: (
        {"setup.pip": ["transformers==4.40"]},
        {"details": {"kind": "model"}, "lines": ("ValueError: The checkpoint has model type `qwen3` but ...",)},
        {"setup.pip": ["transformers>=4.51"]},
    ),
    F.CLI_ARGS_INVALID: (
        {"command": ["train.py", "--batchsize", "3"]},
        {"details": {"kind": "unknown", "option": "--batchsize", "choices": "--batch-size,--lr"}},
        {"command": ["train.py", "--batch-size", "3"]},
    ),
    F.TRAINING_CONFIG_INVALID: (
        {},
        {"lines": ("ValueError: --load_best_model_at_end requires the save and eval strategy to match",)},
        {"training.options.--save_strategy": "steps"},
    ),
    F.CHECKPOINT_UNUSABLE: (
        {"resume": Resume(kind="trainer", auto=True).model_dump(mode="json")},
        {"details": {"kind": "corrupt", "path": "/out/checkpoint-500"}},
        {"resume": None},
    ),
    F.DATA_PATH_MISSING: (
        {"dataset.path": "a.csv"},
        {"files": ["data/a.csv"], "details": {"kind": "read", "path": "a.csv"}},
        {"dataset.path": "data/a.csv"},
    ),
    F.DATASET_FORMAT_ERROR: (
        {},
        {"details": {"kind": "column", "column": "text", "choices": "content"}},
        {"training.options.--dataset_text_field": "content"},
    ),
    F.HUB_NOT_FOUND: (
        {"dataset.path": "./corpus"},
        {"files": ["data/corpus/a.txt"], "details": {"kind": "local", "path": "./corpus"}},
        {"dataset.path": "data/corpus"},
    ),
    F.HUB_RATE_LIMITED: ({}, {}, Wait),
    F.NETWORK_UNREACHABLE: ({}, {"details": {"host": "huggingface.co"}}, Wait),
    F.WANDB_LOGIN_MISSING: ({}, {"details": {"kind": "login"}}, {"env.WANDB_MODE": "offline"}),
    F.OUTPUTS_MISSING: ({}, {}, {"training.options.--save_model": True}),
    F.RUN_TOO_LONG: (
        {"limits.max_run_s": 60},
        {"details": {"needed_s": "600", "needed": "10 min"}},
        {"limits.max_run_s": 600},
    ),
    F.UNDERFIT: ({"training.epochs": 3, "training.lr": 2e-5}, {}, {"training.epochs": 6.0}),
    F.OVERFIT: (
        {"training.epochs": 8, "training.lr": 2e-5},
        {"details": {"unit": "epoch", "best": "2", "of": "8"}},
        {"training.epochs": 2.0},
    ),
    F.WORSE_THAN_BASE: ({"training.epochs": 3, "training.lr": 3e-4}, {}, {"training.lr": 1e-4}),
    F.MODEL_COLLAPSED: ({"training.lr": 3e-4}, {}, {"training.lr": 1e-4, "training.max_grad_norm": 1.0}),
    F.REGRESSED: ({"training.lr": 3e-4}, {}, {"training.lr": 1e-4}),
    F.TARGET_MISSED: ({"training.epochs": 3}, {"details": {"still": "still"}}, {"training.epochs": 6.0}),
}


def told(failure: F) -> tuple[Any, tuple[Repair, ...]]:
    values, more, _ = SCENES[failure]
    start = plan(values, flags=_FLAGS)
    return start, rungs(
        failure, start, more.get("where"), repo=profile(*SHARES), **{k: v for k, v in more.items() if k != "where"}
    )


_FLAGS = {
    **plan().flags,
    "training.attn": "--attn_implementation",
    "training.ddp_timeout": "--ddp_timeout",
    "training.report_to": "--report_to",
    "training.tf32=True": "--tf32",
    "training.epochs": "--num_train_epochs",
}


@pytest.mark.parametrize("failure", SCENES, ids=lambda f: f.value)
def test_the_first_step(failure: F) -> None:
    start, found = told(failure)
    expected = SCENES[failure][2]
    assert found
    if isinstance(expected, dict):
        assert _nested(diffs(found[:1], start)[0]) == _nested(expected)
    else:
        assert isinstance(found[0], expected)
    assert all(r.why for r in found)


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    """Fields below a block that is taken away as that block."""
    return {p.partition(".")[0] if p.startswith("resume.") else p: v for p, v in values.items()}


def test_every_fixable_cause_has_a_scene_and_no_other_a_ladder() -> None:
    assert set(SCENES) == set(LADDERS)
    assert set(LADDERS) == {f for f, e in TAXONOMY.items() if e.fixable is not Fixable.NO} - {F.NO_FAILURE}


@pytest.mark.parametrize("failure", [f for f, e in TAXONOMY.items() if e.fixable is Fixable.NO])
def test_what_no_change_mends_is_handed_over(failure: F) -> None:
    assert rungs(failure, plan(), CARDS) == ()
    found = Diagnosis(failure=failure, confidence=1.0, cause="c", advice="Do this.", escalate=True)
    assert would_do(found) == ("Hand it to you at once: no change of the job mends it.",)
    assert can_do(found)


@pytest.mark.parametrize("failure", LADDERS)
def test_what_would_be_done_is_said_without_a_plan(failure: F) -> None:
    said = would_do(Diagnosis(failure=failure, confidence=1.0, cause="c", details={"kind": "x"}, advice="Do this."))
    assert said
    assert all(text[0].isupper() for text in said)
    assert not any("\n" in text for text in said)


def test_a_broken_node_is_named_and_avoided_and_without_another_one_nothing_is_tried() -> None:
    start = plan({"resources.gpus": 1})
    (first,) = rungs(F.GPU_NODE_BROKEN, start, CARDS, node_name="n1")
    assert isinstance(first, RetryElsewhere)
    assert first.avoid_nodes == ("n1",)
    alone = facts(node("n1", devices=(gpu("NVIDIA A40", 45),)))
    assert rungs(F.GPU_NODE_BROKEN, start, alone, node_name="n1") == ()


def test_more_disk_is_no_answer_where_the_plans_own_place_for_outputs_is_full() -> None:
    limit = {"training.save_total_limit": "--save_total_limit"}
    start = plan({"training.output_dir": "/mnt/out", "training.save_total_limit": 3}, flags={**_FLAGS, **limit})
    found = diffs(rungs(F.DISK_FULL, start, details={"path": "/mnt/out/checkpoint-4"}), start)
    assert {"training.save_total_limit": 2} in found
    assert not any("resources.disk_mb" in values for values in found)
    elsewhere = diffs(rungs(F.DISK_FULL, start, details={"path": "/scratch"}), start)
    assert any("resources.disk_mb" in values for values in elsewhere)


def test_a_pin_in_the_requirements_gives_way() -> None:
    start = plan({"setup.requirements": "requirements.txt"})
    files = {"requirements.txt": "torch\ntransformers==4.40.1  # tested\n"}
    named = {"package": "transformers", "want": ">=4.51"}
    found = rungs(F.PACKAGE_VERSION_CONFLICT, start, files=files, details=named)
    assert diffs(found, start)[0] == {"setup.requirements": None, "setup.pip": ["torch", "transformers>=4.51"]}
    fits = rungs(
        F.PACKAGE_VERSION_CONFLICT,
        start,
        files={"requirements.txt": "torch\ntransformers>=4.40\n"},
        details=named,
    )
    assert diffs(fits, start)[0] == {"setup.pip": ["transformers>=4.51"]}


@pytest.mark.parametrize(
    ("line", "pinned"),
    [
        ("TypeError: SFTTrainer.__init__() got an unexpected keyword argument 'tokenizer'", "trl<0.12"),
        ("tokenizers>=0.14,<0.19 is required for a normal functioning of this module", "tokenizers>=0.14,<0.19"),
        ("ValueError: numpy.dtype size changed, may indicate binary incompatibility", "numpy<2"),
        ("please pip install -U 'accelerate>=0.26.0'", "accelerate>=0.26.0"),
        ("TypeError: Descriptors cannot be created directly.", "protobuf<3.21"),
    ],
)
def test_the_pin_that_a_message_names(line: str, pinned: str) -> None:
    found = rungs(F.PACKAGE_VERSION_CONFLICT, plan(), lines=(line,))
    assert diffs(found, plan())[0] == {"setup.pip": [pinned]}


def test_the_nearest_version_that_the_index_has() -> None:
    start = plan({"setup.pip": ["torch==2.1.9"]})
    named = {
        "kind": "requirement",
        "package": "torch",
        "want": "torch==2.1.9",
        "versions": "2.0.1, 2.1.2, 2.2.0, 3.0a1",
    }
    assert {"setup.pip": ["torch==2.1.2"]} in diffs(rungs(F.PACKAGE_VERSION_CONFLICT, start, details=named), start)


def test_free_memory_in_pieces_is_joined_first() -> None:
    line = (
        "Of the allocated memory 18.1 GiB is allocated by PyTorch, and 3.40 GiB is reserved by PyTorch but unallocated."
    )
    start = plan({"resources.gpus": 1, "training.micro_batch": 8})
    here, details = (
        facts(node(devices=(gpu("Card", 24),))),
        {"tried_gib": "2.0", "total_gib": "23.6", "free_gib": "0.4"},
    )
    found = diffs(rungs(F.CUDA_OOM, start, here, details=details, lines=(line,)), start)
    assert found[0] == {"env.PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    assert found[1]["env.PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert found[1]["training.micro_batch"] == 4


def test_deepspeeds_product_is_solved_for_the_accumulation() -> None:
    said = (
        "AssertionError: Check batch related parameters. train_batch_size is not equal to micro_batch_per_gpu * "
        "gradient_acc_step * world_size 64 != 4 * 1 * 8"
    )
    start = plan({"training.micro_batch": 4, "training.grad_accum": 1})
    found = diffs(rungs(F.TRAINING_CONFIG_INVALID, start, lines=(said,)), start)
    assert found[0] == {"training.grad_accum": 2}


def test_a_timeout_is_longer_only_where_the_log_shows_progress() -> None:
    start = plan({"resources.gpus": 2}, flags=_FLAGS)
    quiet = diffs(rungs(F.NCCL_TIMEOUT, start, CARDS, repo=profile(*SHARES)), start)
    busy = diffs(rungs(F.NCCL_TIMEOUT, start, CARDS, repo=profile(*SHARES), lines=("45%|##  | 450/1000",)), start)
    assert not any("training.ddp_timeout" in change for change in quiet)
    assert {"training.ddp_timeout": 7200} in busy


def test_an_image_that_fits_the_nodes_has_the_compiler_that_is_missing() -> None:
    start = plan({"resources.gpus": 1})
    named = {"program": "nvcc", "package": "flash-attn"}
    torch = Wanted(line="torch", where=SourceLine(file="requirements.txt", line=1))
    repo = profile(*SHARES, environment=RepoEnvironment(declared=(torch,)))
    found = rungs(F.BUILD_TOOLCHAIN_MISSING, start, CARDS, repo=repo, images=IMAGES, details=named)
    assert diffs(found, start)[0] == {"image": IMAGES[0].image}
