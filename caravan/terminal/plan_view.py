"""A plan as `plan` shows it: what will run, where each value comes from, what is not known, what speaks against it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

from caravan.terminal.text import joined, one_line, words
from caravan.values.dialogue import Ask
from caravan.values.plan import STANDING, CodeSource, OutputSink, TrainingPlan
from caravan.values.run import EXIT_CODES, RunRecord, RunStatus
from caravan.values.target import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from caravan.agent.state import RunState
    from caravan.terminal.streams import Terminal
    from caravan.terminal.summary import Scene
    from caravan.values.base import Json
    from caravan.values.estimate import Estimate
    from caravan.values.plan import PlanChange
    from caravan.values.repo import RepoProfile, SourceLine
    from caravan.values.run import RunRequest

_VALUE: Final = 60  # characters of a value that are shown
_UNSHOWN: Final = frozenset({"goal", "command", "workdir", "flags", "config_keys"})
_WAITS: Final = 3
_HAZARDS: Final = 8
_SETTABLE: Final = (
    "resources.gpus",
    "resources.gpu_model",
    "training.micro_batch",
    "training.grad_accum",
    "training.grad_checkpointing",
    "training.method",
    "training.quant_bits",
)
"""Fields of which a nearest plan is made; the others follow from them."""
_EVIDENCE: Final = {
    "command": "launch_command",
    "workdir": "launch_command",
    "launch.launcher": "launcher",
    "launch.args": "launch_command",
    "env": "launch_command",
    "setup.cmd": "prep_commands",
    "setup.requirements": "dependency_files",
    "setup.pip": "dependency_files",
    "model.id": "base_model",
    "dataset.path": "dataset",
    "training.method": "method",
    "resources.gpus": "num_gpus",
    "secrets": "env_vars_needed",
    "target": "metrics_logged",
    "image": "docker",
}
"""Plan field → the finding of the profile that it was taken from."""
_CLUSTERS: Final = {
    "driver": "driver",
    "image": "image",
    "resources.cpu_mhz": "CPU",
    "resources.memory_mb": "memory",
    "resources.disk_mb": "disk",
    "node_pool": "node pool",
    "code": "delivery of the code",
    "outputs": "place of the outputs",
}
"""What only a cluster decides, with its name for a person."""
_RUN_OUTPUTS: Final = re.compile(r"/runs/[0-9a-f]+/outputs/?$")


class DrawnUp(NamedTuple):
    """A plan that was drawn up. `ended`: the question that is open, or the run that left it. `known`: secrets."""

    request: RunRequest
    state: RunState | None
    ended: Ask | RunRecord
    scene: Scene
    known: tuple[str, ...]

    @property
    def plan(self) -> TrainingPlan | None:
        """The plan as it is written: without what belongs to one run."""
        return for_any_run(self.state.plan) if self.state and self.state.plan else None

    @property
    def profile(self) -> RepoProfile | None:
        """What the repository was found to be."""
        return self.state.profile if self.state else None

    @property
    def exit_code(self) -> int:
        """0, or 3 where a person is needed."""
        if isinstance(self.ended, Ask):
            return _WAITS
        return 0 if self.request.cluster == NOWHERE else EXIT_CODES[self.ended.status]


def for_any_run(plan: TrainingPlan) -> TrainingPlan:
    """The plan without what is made anew for each run: its archive of the code, its copy of data, its directory."""
    dropped: dict[str, Json] = {}
    if plan.code.kind == "archive" and plan.set_by("code") not in STANDING and not _named(plan, "code"):
        dropped["code"] = CodeSource(kind="image")
    if plan.data is not None and plan.set_by("data") not in STANDING and not _named(plan, "data"):
        dropped["data"] = None
    if plan.build is not None:
        dropped["build"] = None
    if _RUN_OUTPUTS.search(plan.outputs.location) and plan.set_by("outputs") not in STANDING:
        dropped["outputs"] = OutputSink()
    kept = {p: o for p, o in plan.provenance.items() if p.partition(".")[0] not in dropped}
    return plan.model_copy(update={**dropped, "provenance": kept})


def _named(plan: TrainingPlan, block: str) -> bool:
    """Whether a person set a field of the block."""
    return any(p.startswith(f"{block}.") and o.by in STANDING for p, o in plan.provenance.items())


def show_drawn_up(terminal: Terminal, found: DrawnUp, out: Path | None, *, as_json: bool) -> int:
    """Print the plan and write it where `out` says; the exit code comes back."""
    plan = found.plan
    wanted = out is not None and plan is not None and not isinstance(found.ended, Ask)
    written = _write(out, plan, found) if wanted and out and plan else None
    if as_json:
        terminal.document(_document(found, written))
    else:
        _print(terminal, found, written)
    return found.exit_code


def _write(out: Path, plan: TrainingPlan, found: DrawnUp) -> Path:
    from caravan.runs.files import write_file
    from caravan.runs.plan_file import draft_text

    places = {path: place for path in plan.provenance if (place := _place(plan, path, found.profile))}
    write_file(out, draft_text(plan, found.request.source, found.known, places).encode())
    return out


def _document(found: DrawnUp, written: Path | None) -> dict[str, Json]:
    from caravan.terminal.summary import command_line

    plan, state, profile = found.plan, found.state, found.profile
    ended = found.ended
    return {
        "source": found.request.source,
        "cluster": found.request.cluster,
        "prompt": found.request.prompt,
        "status": "waiting" if isinstance(ended, Ask) else _status(found, ended).value,
        "exit_code": found.exit_code,
        "detail": ended.text if isinstance(ended, Ask) else ended.detail,
        "command": command_line(plan) if plan else None,
        "plan": plan.model_dump(mode="json") if plan else None,
        "plan_sha256": plan.digest() if plan else None,
        "estimate": _runnable(state.estimate).model_dump(mode="json") if state and state.estimate else None,
        "asked": [q.model_dump(mode="json") for q in state.questions] if state else [],
        "answers": [a.model_dump(mode="json") for a in state.answers] if state else [],
        "not_known": not_known(found),
        "hazards": [h.model_dump(mode="json") for h in profile.hazards] if profile else [],
        "warnings": list(state.warnings) if state else [],
        "plan_path": str(written) if written else None,
        "question": ended.model_dump(mode="json", exclude={"plan", "estimate"}) if isinstance(ended, Ask) else None,
    }


def _status(found: DrawnUp, ended: RunRecord) -> RunStatus:
    return RunStatus.PLANNED if found.request.cluster == NOWHERE else ended.status


def not_known(found: DrawnUp) -> list[str]:
    """What the plan leaves open, in lines: what the cluster decides, what no option takes, what could not be read."""
    from caravan.agent.approval import not_followed

    plan, profile = found.plan, found.profile
    if plan is None:
        return []
    lines = []
    if found.request.cluster == NOWHERE:
        open_ones = [name for path, name in _CLUSTERS.items() if not _decided(plan, path)]
        lines.append(f"left to the cluster: {', '.join(open_ones)} (--cluster or --inventory shows them)")
    if not plan.command:
        lines.append("the command: nothing in the repository was found to train")
    taken_nowhere = "is not passed on: the repository takes it nowhere"
    lines += [f"{p} = {words(plan.get(p))} {taken_nowhere}" for p in not_followed(plan, profile)] if profile else []
    for name, path in (("base model", "model.id"), ("data", "dataset.path")):
        if plan.get(path) is None and path in (*plan.flags, *plan.config_keys):
            lines.append(f"{name}: neither the repository nor you name it")
    lines += [f"not read: {note}" for note in profile.notes] if profile else []
    return lines


def _decided(plan: TrainingPlan, path: str) -> bool:
    return any(p == path or p.startswith(f"{path}.") for p in plan.provenance)


def _print(terminal: Terminal, found: DrawnUp, written: Path | None) -> None:
    from caravan.terminal.console import draw
    from caravan.terminal.results import example_answers
    from caravan.terminal.summary import alternatives_table, estimate_table

    state, plan, ended = found.state, found.plan, found.ended
    if isinstance(ended, Ask):
        _print_open(terminal, ended)
        example, needed = example_answers(ended)
        ways = "" if needed else " Or take the defaults with --yes."
        terminal.out(f"Answer with --answers FILE; the file says, for example, {example}.{ways}")
        return
    if plan is None or state is None:
        terminal.out(one_line(ended.detail or "No plan was made."))
        return
    terminal.out(one_line(f"Plan: {plan.goal}"))
    draw(terminal.stdout, _head(found, plan), _fields(plan, found.profile))
    if state.estimate is not None:
        draw(terminal.stdout, estimate_table(_runnable(state.estimate)))
        for line in _next(state.estimate):
            terminal.out(one_line(line))
        if state.estimate.alternatives:
            draw(terminal.stdout, alternatives_table(state.estimate.alternatives))
        if found.request.cluster == NOWHERE and (sizes := _holding(state.estimate)):
            terminal.out(f"that fits          {sizes}")
    for name, lines in _notes(found, state).items():
        for line in lines:
            terminal.out(f"{name}: {one_line(line)}")
    if found.exit_code:
        terminal.out(one_line(f"It can't run like this: {ended.detail}"))
    if written is not None:
        terminal.out(f"Written to {one_line(written)}. Change it, check it with `plan --check`, run it with --plan.")


def _runnable(estimate: Estimate) -> Estimate:
    """The estimate without time and cost where the plan doesn't fit: nothing that can't run has them."""
    if estimate.fits is not False:
        return estimate
    grounds = tuple(a for a in estimate.assumptions if not a.startswith(("time", "price:", "costs nothing")))
    left = tuple(a for a in grounds if " USD a " not in a)
    said = ("time isn't estimated: the plan doesn't fit",)
    return estimate.model_copy(update={"seconds": None, "cost_usd": None, "assumptions": (*left, *said)})


def _next(estimate: Estimate) -> list[str]:
    """What a person may do about a plan that doesn't fit."""
    if estimate.fits is not False:
        return []
    if estimate.alternatives:
        sets = _sets(estimate.alternatives[0].changes)
        first = f" (the first with {sets})" if sets else ""
        return [f"It doesn't fit. The nearest plans that do{first}:"]
    holding = _holding(estimate)
    where = f" It fits as it is {holding}." if holding else ""
    ways = "a smaller micro batch or length, checkpointing, QLoRA, or a launcher with FSDP over more GPUs"
    return [f"It doesn't fit, and no plan near it that the program has options for does.{where} Else give it {ways}."]


def _sets(changes: Sequence[PlanChange]) -> str:
    """The options of a command that lead to a plan; empty where an option can't say all of it."""
    if any(c.path in ("training.options", "launch.args") for c in changes):
        return ""
    told = [(c.path, str(c.value).lower() if isinstance(c.value, bool) else str(c.value)) for c in changes]
    return " ".join(f"--set {shlex.quote(f'{path}={value}')}" for path, value in told if path in _SETTABLE)


def _holding(estimate: Estimate) -> str:
    """The smallest GPU types that hold so much with its margin, of each size one."""
    from caravan.planning.catalogue import CATALOGUE
    from caravan.planning.margin import holds

    gib = estimate.gpu_memory_high_gib or estimate.gpu_memory_gib
    if gib is None:
        return ""
    enough = sorted((g.memory_mib, g.name) for g in CATALOGUE if holds(g.memory_mib / 1024, gib))
    sizes: dict[int, str] = {}
    for mib, name in enough:
        sizes.setdefault(round(mib / 1024), name)
    shown = [f"{name} ({size} GiB)" for size, name in list(sizes.items())[:3]]
    return f"on one GPU like {', '.join(shown)}" if shown else f"on no single GPU that is known: it needs {gib:.0f} GiB"


def _print_open(terminal: Terminal, ask: Ask) -> None:
    from caravan.terminal.dialogue import question_lines

    terminal.out(one_line(ask.text))
    for number, question in enumerate(ask.questions, 1):
        for line in question_lines(question, number, len(ask.questions)):
            terminal.out(line)
        terminal.out(f"     id: {one_line(question.id)}, default: {words(question.default)}")


def _head(found: DrawnUp, plan: TrainingPlan) -> RenderableType:
    from caravan.terminal.console import pairs
    from caravan.terminal.summary import command_line

    git = found.profile.git if found.profile else None
    at = joined((git.commit[:12], "with uncommitted changes" if git.dirty_files else "")) if git else ""
    on_paper = found.request.cluster == NOWHERE
    rows = {
        "repository": joined((found.request.source, at)),
        "runs": command_line(plan) or "nothing was found to run",
        "read from": _place(plan, "command", found.profile),
        "directory": plan.workdir if plan.workdir != "." else "",
        "before it": " && ".join(plan.setup.cmd),
        "cluster": "none: what it decides is left open" if on_paper else found.scene.cluster,
    }
    return pairs([(name, one_line(value)) for name, value in rows.items() if value])


def _fields(plan: TrainingPlan, profile: RepoProfile | None) -> RenderableType:
    """Every field that somebody set: value, who, and why or where it was read."""
    from caravan.terminal.console import cell, listing

    table = listing("field", "value", "set by", "from")
    for path in sorted(plan.provenance, key=_order):
        if path in _UNSHOWN:
            continue
        origin = plan.provenance[path]
        value = one_line(words(plan.get(path)), _VALUE)
        why = joined((origin.why, _place(plan, path, profile), _goes(plan, path)))
        table.add_row(cell(path), cell(value), plan.whose(path), cell(one_line(why, 100)))
    return table


def _order(path: str) -> tuple[int, str]:
    head = path.partition(".")[0]
    names = list(TrainingPlan.model_fields)
    return names.index(head) if head in names else len(names), path


def _place(plan: TrainingPlan, path: str, profile: RepoProfile | None) -> str:
    """Where in the repository a value was read, where it is the repository's."""
    if profile is None or not plan.is_own(path):
        return ""
    key = plan.config_keys.get(path)
    if key is not None:
        return f"{key.path}: {key.key}"
    lines = profile.evidence.get(_EVIDENCE.get(path, ""), ())
    return next((_line(e) for e in lines), "")


def _goes(plan: TrainingPlan, path: str) -> str:
    """What carries a value to the program, where it isn't the program's own: an option, a variable, a key of a file."""
    from caravan.planning.command import told_by
    from caravan.planning.flags import plain_flag

    if plan.is_own(path):
        return ""
    flag = next((f for told, f in plan.flags.items() if told_by(told).field == path), None)
    if flag is not None:
        name = plain_flag(flag)
        return f"as the variable {name[1:]}" if name.startswith("$") else f"as {name}" if name.startswith("-") else ""
    key = plan.config_keys.get(path)
    return f"into {key.path}: {key.key}" if key is not None else ""


def _line(line: SourceLine) -> str:
    return f"{line.file}:{line.line}" if line.line else line.file


def _notes(found: DrawnUp, state: RunState) -> dict[str, Iterator[str]]:
    """What a person should know before it runs, by kind."""
    profile = found.profile
    hazards = profile.hazards[:_HAZARDS] if profile else ()
    told = {h.text for h in hazards}
    by_id = {q.id: q for q in state.questions}
    guessed = [by_id[a.question_id] for a in state.answers if not a.by_user and a.question_id in by_id]
    return {
        "Default taken": (f"{q.text} {words(q.default)} ({q.id})" for q in guessed),
        "Not known": iter(not_known(found)),
        "Hazard": (joined((h.text, ", ".join(_line(e) for e in h.evidence[:2]))) for h in hazards),
        "Warning": (text for text in state.warnings if text not in told),
    }
