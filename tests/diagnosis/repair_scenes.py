"""Small cases for the tests of the ladders: a failure, a plan, nodes, and a repository that can be looked into."""

from collections.abc import Mapping, Sequence
from typing import Any

from caravan.agent.rules import outlook_of
from caravan.diagnosis.ladders.case import Case, Looks
from caravan.diagnosis.repair import ladder
from caravan.planning.catalogue import Prices
from caravan.planning.flags import known_flags
from caravan.values.environment import BaseImage
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass, PastCase, Repair
from caravan.values.job import ClusterFacts, ClusterKind, DeviceGroup, DriverFacts, NodeFacts
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes, plan_diff
from caravan.values.repo import Launcher, RepoProfile, ScriptOption

F = FailureClass


def facts(*nodes: NodeFacts) -> ClusterFacts:
    return ClusterFacts(kind=ClusterKind.BUILTIN, address="a", version="2.0.6", nodes=nodes, shared_files=True)


def node(name: str = "n1", memory_mb: int = 8192, **fields: Any) -> NodeFacts:
    base = {"id": name, "name": name, "memory_mb": memory_mb, "cpu_mhz": 8000, "cores": 8, "disk_mb": 100_000}
    return NodeFacts.model_validate({**base, "drivers": {"docker": DriverFacts()}, **fields})


def gpu(model: str, gib: float, count: int = 1) -> DeviceGroup:
    return DeviceGroup(vendor="nvidia", type="gpu", model=model, count=count, memory_mib=int(gib * 1024))


OPTIONS = (
    ScriptOption(flag="--per_device_train_batch_size", type="int", default=8),
    ScriptOption(flag="--gradient_accumulation_steps", type="int", default=1),
    ScriptOption(flag="--learning_rate", type="float", default=3e-4),
    ScriptOption(flag="--max_grad_norm", type="float"),
    ScriptOption(flag="--max_seq_length", type="int", default=2048),
    ScriptOption(flag="--gradient_checkpointing", type="bool", default=False),
    ScriptOption(flag="--load_in_4bit", type="bool", default=False),
    ScriptOption(flag="--dataloader_num_workers", type="int", default=0),
    ScriptOption(flag="--bf16", type="bool", default=False),
    ScriptOption(flag="--fp16", type="bool", default=False),
    ScriptOption(flag="--dataset_name"),
    ScriptOption(flag="--output_dir"),
    ScriptOption(flag="--optim", choices=("adamw_torch", "sgd")),
)


def profile(*options: ScriptOption, **fields: Any) -> RepoProfile:
    base = {"root": "/r", "tree_digest": "0" * 64, "is_training_repo": True, "entry_point": "train.py"}
    return RepoProfile.model_validate({**base, "launcher": Launcher.PYTHON, "options": options or OPTIONS, **fields})


def plan(values: Mapping[str, Any] | None = None, *, by: Author = Author.DEFAULT, **fields: Any) -> TrainingPlan:
    """A plan whose program hears what `OPTIONS` name; `values` are set by `by`."""
    base = {"goal": "g", "command": ("train.py",), "flags": known_flags(profile()), "image": "img/train:1"}
    start = TrainingPlan.model_validate({**base, **fields})
    return apply_changes(start, [PlanChange(path=p, value=v, by=by) for p, v in (values or {}).items()])


def looks(files: Mapping[str, str] | Sequence[str] = ()) -> Looks:
    """A repository of these files, found as the toolbox finds them."""
    texts = files if isinstance(files, Mapping) else dict.fromkeys(files, "")

    def find(name: str) -> tuple[str, ...]:
        wanted = [p for p in name.split("/") if p not in ("", ".", "..")]
        found = set()
        for path in texts:
            parts = path.split("/")
            for end in range(len(wanted), len(parts) + 1):
                if wanted and parts[end - len(wanted) : end] == wanted:
                    found.add("/".join(parts[:end]) + ("" if end == len(parts) else "/"))
        return tuple(sorted(found))

    return Looks(find, lambda path: texts.get(path, ""), lambda: tuple(path for path in texts if "req" in path))


def case(
    failure: FailureClass,
    of: TrainingPlan,
    where: ClusterFacts | None = None,
    *,
    details: Mapping[str, str] | None = None,
    repo: RepoProfile | None = None,
    files: Mapping[str, str] | Sequence[str] = (),
    cases: Sequence[PastCase] = (),
    image: str | None = None,
    images: Sequence[BaseImage] = (),
    **fields: Any,
) -> Case:
    base = {"failure": failure, "confidence": 1.0, "cause": "c", "details": dict(details or {})}
    diagnosis = Diagnosis.model_validate({**base, **fields})
    where, repo = where or facts(node(memory_mb=64_000)), repo or profile()
    outlook = outlook_of(diagnosis, of, where, Prices(), image, images, repo)
    return Case(diagnosis, of, repo, where, cases, outlook, looks(files))


def rungs(
    failure: FailureClass, of: TrainingPlan, where: ClusterFacts | None = None, **more: Any
) -> tuple[Repair, ...]:
    return ladder(case(failure, of, where, **more))


def diffs(repairs: Sequence[Repair], of: TrainingPlan) -> list[dict[str, Any]]:
    """What each plan change of a ladder does to the plan: path → value after."""
    return [
        {path: after for path, (_, after) in plan_diff(of, apply_changes(of, r.changes)).items()}
        for r in repairs
        if isinstance(r, ChangePlan)
    ]


def mended(of: TrainingPlan, repair: Repair) -> TrainingPlan:
    assert isinstance(repair, ChangePlan), repair
    return apply_changes(of, repair.changes)
