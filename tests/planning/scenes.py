"""Small clusters, repositories and plans for the tests of planning."""

from pathlib import Path
from typing import Any

from caravan.values.job import ClusterFacts, ClusterKind, DeviceGroup, DriverFacts, HostVolume, NodeFacts
from caravan.values.plan import CodeSource, OutputSink, TrainingPlan
from caravan.values.repo import EntryCandidate, HyperparameterFlag, Launcher, RepoProfile, ScriptOption
from caravan.values.run import RunRequest

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
ARCHIVE = CodeSource(kind="archive", location="/state/runs/r1/code.tar.gz", sha256="ab" * 32)
GIT = CodeSource(kind="git", location="https://git.example/a/b.git", ref="0123abc")
OUTPUTS = OutputSink(kind="path", location="/state/runs/r1/outputs")


def node(
    name: str = "n1", *gpus: tuple[str, int, int], drivers: str = "docker exec raw_exec", **more: Any
) -> NodeFacts:
    """A node; `gpus` are (model, MiB, count)."""
    devices = tuple(
        DeviceGroup(vendor="nvidia", type="gpu", model=m, memory_mib=size, count=count) for m, size, count in gpus
    )
    fields: dict[str, Any] = {"cpu_mhz": 40000, "cores": 16, "memory_mb": 128000, "disk_mb": 500000, **more}
    return NodeFacts(
        id=f"id-{name}", name=name, drivers={d: DriverFacts() for d in drivers.split()}, devices=devices, **fields
    )


def builtin(*nodes: NodeFacts) -> ClusterFacts:
    found = nodes or (node("here", drivers="raw_exec", meta={"caravan_python": "/opt/python/bin/python3"}),)
    return ClusterFacts(
        kind=ClusterKind.BUILTIN, address="http://127.0.0.1:1", version="2.0.6", nodes=found, shared_files=True
    )


def nomad(*nodes: NodeFacts) -> ClusterFacts:
    return ClusterFacts(kind=ClusterKind.NOMAD, address="https://nomad.example", version="2.0.6", nodes=nodes)


def volumes(**read_only: bool) -> dict[str, HostVolume]:
    return {name: HostVolume(path=f"/srv/{name}", read_only=ro) for name, ro in read_only.items()}


def numpy_profile(**more: Any) -> RepoProfile:
    """Like the example: NumPy, argparse, everything with a default."""
    flags = {
        "batch_size": ("--batch-size", 16),
        "learning_rate": ("--learning-rate", 0.005),
        "epochs": ("--epochs", 60),
        "seq_len": ("--seq-len", 32),
        "gradient_accumulation": ("--gradient-accumulation", 1),
        "output_dir": ("--output-dir", "outputs"),
    }
    options = [ScriptOption(flag=f, default=d) for f, d in flags.values()]
    options += [ScriptOption(flag="--seed", default=0, type="int"), ScriptOption(flag="--data")]
    fields: dict[str, Any] = {
        "root": "/repo",
        "tree_digest": "0" * 64,
        "is_training_repo": True,
        "entry_point": "train.py",
        "launcher": Launcher.PYTHON,
        "launch_command": "python train.py --data data/text.txt --output-dir outputs --epochs 60",
        "framework": "numpy",
        "libraries": ("numpy",),
        "method": "lora",
        "dependency_files": ("requirements.txt",),
        "options": tuple(options),
        "key_hyperparameters": {k: HyperparameterFlag(flag=f, default=d) for k, (f, d) in flags.items()},
        "metrics_logged": ("loss",),
        **more,
    }
    return RepoProfile(**fields)


def llm_profile(**more: Any) -> RepoProfile:
    """A fine-tuning script on transformers with gaps: no model, no data, nothing about GPUs."""
    options = [
        ScriptOption(flag="--model_name_or_path"),
        ScriptOption(flag="--dataset_name"),
        ScriptOption(flag="--per_device_train_batch_size", default=8, type="int"),
        ScriptOption(flag="--gradient_accumulation_steps", default=1, type="int"),
        ScriptOption(flag="--learning_rate", default=2e-5, type="float"),
        ScriptOption(flag="--num_train_epochs", default=None, type="float"),
        ScriptOption(flag="--max_length", default=1024, type="int"),
        ScriptOption(flag="--gradient_checkpointing", default=False, type="bool"),
        ScriptOption(flag="--bf16", default=False, type="bool"),
        ScriptOption(flag="--use_peft", default=False, type="bool"),
        ScriptOption(flag="--output_dir", required=True),
    ]
    keys = {
        "batch_size": HyperparameterFlag(flag="--per_device_train_batch_size", default=8),
        "learning_rate": HyperparameterFlag(flag="--learning_rate", default=2e-5),
        "epochs": HyperparameterFlag(flag="--num_train_epochs"),
        "seq_len": HyperparameterFlag(flag="--max_length", default=1024),
        "gradient_accumulation": HyperparameterFlag(flag="--gradient_accumulation_steps", default=1),
        "output_dir": HyperparameterFlag(flag="--output_dir"),
    }
    fields: dict[str, Any] = {
        "root": "/repo",
        "tree_digest": "1" * 64,
        "is_training_repo": True,
        "entry_point": "sft.py",
        "launcher": Launcher.TORCHRUN,
        "framework": "pytorch",
        "libraries": ("torch", "transformers", "peft", "trl"),
        "options": tuple(options),
        "key_hyperparameters": keys,
        "metrics_logged": ("loss", "eval_loss", "learning_rate"),
        **more,
    }
    return RepoProfile(**fields)


def candidates(*found: tuple[str, Launcher, float]) -> tuple[EntryCandidate, ...]:
    return tuple(EntryCandidate(entry_point=e, launcher=k, score=s, reasons=("trains",)) for e, k, s in found)


def request(prompt: str = "fine-tune it", **more: Any) -> RunRequest:
    return RunRequest(prompt=prompt, source="/repo", **more)


def bare_plan(*command: str, **more: Any) -> TrainingPlan:
    return TrainingPlan(goal="test", command=command or ("train.py",), **{"code": ARCHIVE, "outputs": OUTPUTS, **more})
