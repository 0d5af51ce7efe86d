"""How many examples a plan trains on: what a person said, what the repository's files hold, what the hub says.

Pure; it reads no file and asks nobody. What is not known is None.
"""

from collections.abc import Iterable
from posixpath import normpath

from caravan.values.datasets import DatasetAnswer, DatasetSize, SplitSize
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile

_NOT_TRAINED_ON = ("test", "valid", "eval", "dev", "holdout")


def dataset_size(plan: TrainingPlan, profile: RepoProfile | None) -> DatasetSize | None:
    """The size of the plan's training data, None where nothing says it.

    A count in the plan comes first, then the repository's own files, then the hub.
    """
    named = plan.dataset.path or (profile.dataset if profile else None) or ""
    found = _in_repository(named, profile.data_sizes) if profile else None
    if found is None and profile is not None:
        found = next((_on_hub(a) for a in profile.datasets_on_hub if a.dataset == named and a.splits), None)
    if plan.dataset.examples is not None:
        base = found or DatasetSize(name=named)
        told = {"rows": plan.dataset.examples, "exact": True, "source": "the plan's dataset.examples"}
        return base.model_copy(update=told)
    return found


def _in_repository(named: str, sizes: Iterable[DatasetSize]) -> DatasetSize | None:
    """The file that is named, or the files of the folder that is named without those that are not trained on."""
    path = normpath(named) if named else ""
    files = list(sizes)
    exact = next((s for s in files if path and (s.name == path or s.name.endswith(f"/{path}"))), None)
    if exact is not None:
        return exact
    if not path or path.startswith(("/", "..")) or "://" in path:
        return None
    below = [s for s in files if s.name.startswith(f"{path}/") and not _held_out(s.name.removeprefix(f"{path}/"))]
    return _together(path, below) if below else None


def _held_out(path: str) -> bool:
    return any(word in path.lower() for word in _NOT_TRAINED_ON)


def _together(name: str, parts: list[DatasetSize]) -> DatasetSize:
    rows = None if any(p.rows is None for p in parts) else sum(p.rows or 0 for p in parts)
    chars = None
    if rows and all(p.mean_chars is not None for p in parts):
        chars = sum((p.mean_chars or 0.0) * (p.rows or 0) for p in parts) / rows
    return DatasetSize(
        name=name,
        rows=rows,
        bytes=sum(p.bytes or 0 for p in parts),
        mean_chars=chars,
        exact=all(p.exact for p in parts),
        source=f"{len(parts)} files of the repository in {name}",
    )


def _on_hub(answer: DatasetAnswer) -> DatasetSize:
    """The training split of the first configuration; all splits where none is called so."""
    config = _default_config(answer.splits)
    mine = [s for s in answer.splits if s.config == config]
    train = [s for s in mine if "train" in s.split.lower()] or [s for s in mine if not _held_out(s.split)] or mine
    rows = None if any(s.rows is None for s in train) else sum(s.rows or 0 for s in train)
    size = None if any(s.bytes is None for s in train) else sum(s.bytes or 0 for s in train)
    which = "+".join(s.split for s in train[:3])
    told = f"the hub's size of {answer.dataset} ({config}, split {which})"
    chars = size / rows if rows and size is not None else None
    return DatasetSize(name=answer.dataset, rows=rows, bytes=size, mean_chars=chars, source=told)


def _default_config(splits: tuple[SplitSize, ...]) -> str:
    names = [s.config for s in splits]
    return "default" if "default" in names else names[0]
