"""What a plan would do, as tables: before an approval, after a dry run, in `show`."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

from caravan.planning.batches import batch_text
from caravan.planning.command import command_variables
from caravan.planning.environments import requirement_files
from caravan.planning.launchers import launch_words
from caravan.planning.quiet import quieted
from caravan.terminal.console import cell, console_on, draw, listing, rows_table
from caravan.terminal.text import joined, one_line, span, words
from caravan.values.amounts import duration, money, size_text
from caravan.values.errors import ClusterError
from caravan.values.job import ClusterKind
from caravan.values.plan import STANDING, Author, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from rich.console import RenderableType
    from rich.table import Table

    from caravan.terminal.streams import Terminal
    from caravan.values.dialogue import Ask, PlanChoice
    from caravan.values.estimate import Alternative, Estimate, Range
    from caravan.values.job import ClusterFacts
    from caravan.values.plan import TrainingPlan
    from caravan.values.run import RunRecord

_MIB_PER_GIB: Final = 1024
_ASSUMPTIONS: Final = 4  # shown; the report has them all


@dataclass(frozen=True)
class Scene:
    """What stands around a plan: the repository and the cluster, each in a line."""

    source: str
    cluster: str


def scene_of(record: RunRecord, known: Callable[[], ClusterFacts]) -> Scene:
    """The scene of a run. A cluster that does not answer now is named as the request names it."""
    try:
        facts = known()
    except ClusterError as error:
        named = record.request.cluster
        return Scene(record.request.source, f"{named} (does not answer now: {error.message})")
    nodes = len(facts.usable_nodes())
    count = f"{nodes} node{'' if nodes == 1 else 's'}"
    if facts.kind is ClusterKind.BUILTIN:
        pretended = any(d.declared for n in facts.nodes for d in n.devices)
        note = "; its declared GPUs are not real" if pretended else ""
        return Scene(record.request.source, f"built-in, for trying ({facts.address}, {count}{note})")
    return Scene(record.request.source, f"Nomad {facts.version} at {facts.address} ({count})")


def show_approval(terminal: Terminal, ask: Ask, scene: Scene) -> None:
    """Everything that approving means, on stderr."""
    pictures: list[RenderableType] = []
    if ask.plan is not None:
        title = f"Attempt {ask.attempt}: {one_line(ask.plan.goal, 100)}"
        pictures += [cell(title, "bold underline"), plan_table(ask.plan, scene)]
    if ask.estimate is not None:
        pictures.append(estimate_table(ask.estimate))
        pictures += [alternatives_table(ask.estimate.alternatives)] if ask.estimate.alternatives else []
    rows = [("budget", ask.budget.text if ask.budget else ""), *grant_rows(ask)]
    rows += [("by the model", text) for text in (model_lines(ask.plan) if ask.plan else ())]
    rows += [("asked because", text) for text in ask.objections]
    rows += [("warning", text) for text in ask.warnings]
    rows += choice_rows(ask.choices)
    rows.append(("job file", ask.hcl_path))
    pictures.append(rows_table([(name, value, "") for name, value in rows if value]))
    draw(terminal.stderr, *pictures)


def model_lines(plan: TrainingPlan) -> list[str]:
    """The fields that a language model has set, each with its reason: what a person should look at twice."""
    marked = {path: said for path, said in plan.provenance.items() if _of_model(said)}
    return [one_line(f"{path} = {words(plan.get(path))}: {said.why}", 160) for path, said in sorted(marked.items())]


def _of_model(said: Provenance) -> bool:
    return said.by is Author.MODEL or (said.by is Author.REPAIR and said.why.startswith("by "))


def grant_rows(ask: Ask) -> list[tuple[str, str]]:
    """What a yes allows to be spent."""
    if ask.envelope is None:
        return []
    return [("approving grants", f"up to {money(ask.envelope.cost_usd)} for the whole run, repairs included")]


def choice_rows(choices: Sequence[PlanChoice]) -> list[tuple[str, str]]:
    """The other plans that may be taken instead, numbered."""
    return [(f"instead {number}", one_line(choice.text)) for number, choice in enumerate(choices, 1)]


def wrapped(stream: TextIO, text: str) -> str:
    """A line for a terminal, broken between words (a job id is one); as it is where nobody says how wide it is."""
    if not stream.isatty():
        return text
    console = console_on(stream)
    return "\n".join(piece.plain.rstrip() for piece in Text(text).wrap(console, max(20, console.size.width - 1)))


def plan_table(plan: TrainingPlan, scene: Scene) -> Table:
    """The plan's important fields, each with who set it."""
    return rows_table(plan_rows(plan, scene))


def plan_rows(plan: TrainingPlan, scene: Scene) -> list[tuple[str, str, str]]:
    """The same as rows: name, value, who set it."""
    each = " each" if plan.launch.nodes > 1 else ""
    rows = [
        ("repository", scene.source, ""),
        ("command", command_line(plan), _by(plan, "command")),
        ("directory", plan.workdir if plan.workdir != "." else "", _by(plan, "workdir")),
        ("cluster", scene.cluster, ""),
        ("driver", joined((plan.driver, plan.image or ""), ", image "), _by(plan, "image" if plan.image else "driver")),
        ("image because", _because(plan, "image") if plan.image else "", ""),
        ("nodes", _nodes(plan), _by(plan, "launch.nodes")),
        ("GPUs", _gpus(plan), _by(plan, "resources.gpus")),
        ("memory", f"{plan.resources.memory_mb} MB{each}", _by(plan, "resources.memory_mb")),
        ("CPU", _cpu(plan) + each, _by(plan, "resources.cores" if plan.resources.cores else "resources.cpu_mhz")),
        ("disk", f"{plan.resources.disk_mb} MB{each}", _by(plan, "resources.disk_mb")),
        ("model", plan.model.id or "", _by(plan, "model.id")),
        *_delivery(plan),
        *_training(plan),
        ("update", batch_text(plan), _by(plan, "training.global_batch" if plan.training.global_batch else _BATCH)),
        ("switched off", joined(quieted(plan)), ""),
        ("environment", words(sorted(plan.env)) if plan.env else "", _by(plan, "env")),
        ("secrets", words(plan.secrets) if plan.secrets else "", _by(plan, "secrets")),
        ("setup", _setup(plan), _by(plan, "setup")),
        ("GPU driver", _driver(plan), _by(plan, "resources.gpu_driver")),
        ("outputs", joined((plan.outputs.kind, plan.outputs.location), ": "), _by(plan, "outputs")),
        ("first steps", _first_steps(plan), _by(plan, "smoke.on")),
        ("time limit", duration(plan.limits.max_run_s) if plan.limits.max_run_s else "", _by(plan, "limits.max_run_s")),
    ]
    return [row for row in rows if row[1]]


_GROUNDS: Final = ("time", "price:", "costs nothing")
"""How an estimate's line begins that says what time and cost rest on."""

_BARE: Final = re.compile("^time(?: isn't estimated)?: ")


def estimate_table(estimate: Estimate) -> Table:
    """What the plan will need, what that rests on, and how sure it is."""
    return rows_table(estimate_rows(estimate))


def estimate_rows(estimate: Estimate) -> list[tuple[str, str, str]]:
    """The same as rows: name, value, nothing."""
    time, cost = estimate.seconds, estimate.cost_usd
    grounds = [text for text in estimate.assumptions if text.startswith(_GROUNDS) or " USD a " in text]
    parts = words([f"{one_line(p.name)} {p.gib:.2f}" for p in estimate.breakdown]) if estimate.breakdown else ""
    rows = [
        ("GPU memory", _gpu_memory(estimate)),
        ("of which, GiB", parts),
        ("host memory", f"{estimate.host_memory_mb} MB" if estimate.host_memory_mb else ""),
        ("time", _likely(time, duration) if time else "not known"),
        *(("", _BARE.sub("", text)) for text in grounds if text.startswith("time")),
        ("cost", _likely(cost, money) if cost else "not known"),
        *(("", text) for text in grounds if not text.startswith("time")),
        ("fits", {True: "yes", False: "no", None: "not known"}[estimate.fits]),
        ("confidence", f"{estimate.confidence:.0%}"),
    ]
    others = [text for text in estimate.assumptions if text not in grounds]
    rows += [("assumed", text) for text in others[:_ASSUMPTIONS]]
    if len(others) > _ASSUMPTIONS:
        rows.append(("", f"and {len(others) - _ASSUMPTIONS} more, see the report"))
    return [(name, value, "") for name, value in rows if value]


def alternatives_table(rows: Sequence[Alternative]) -> Table:
    """The chosen plan (`*`) and others that fit: memory with its high end, time, cost, and what each gives up."""
    table = listing("", "plan", "GiB", "of", "time", "cost", "gives up")
    for number in (2, 3):
        table.columns[number].justify = "right"
    for row in rows:
        time = duration(row.seconds) if row.seconds is not None else _times(row.speed)
        cost = money(row.cost_usd) if row.cost_usd is not None else _hourly(row)
        memory = f"{row.gpu_memory_gib:.0f}-{row.gpu_memory_high_gib:.0f}"
        mark = "*" if row.chosen else ""
        table.add_row(
            mark, cell(row.text), memory, f"{row.gpu_total_gib:.0f}", time, cost, cell(one_line(row.gives_up))
        )
    return table


def _times(speed: float | None) -> str:
    return "" if speed is None else f"{1 / speed:.2g}x"


def _hourly(row: Alternative) -> str:
    """What is known of the cost where the whole is not: an hour's, and how many times the chosen plan's."""
    ratio = f"{row.cost_ratio:.2g}x" if row.cost_ratio is not None else ""
    return joined((ratio, f"{row.usd_per_hour:.2f} USD/h" if row.usd_per_hour is not None else "not known"), ", ")


def command_line(plan: TrainingPlan) -> str:
    """The command as the job will run it: launcher, program, and the options and variables that the plan sets."""
    if not plan.command:
        return ""
    variables = (f"{name}={shlex.quote(value)}" for name, value in command_variables(plan).items())
    return " ".join((*variables, shlex.join(launch_words(plan))))


def provenance_rows(plan: TrainingPlan) -> list[tuple[str, str, str, str]]:
    """Every field whose author is known, with value, author and reason."""
    known = sorted(plan.provenance.items())
    return [(path, words(plan.get(path)), plan.whose(path), one_line(said.why, 80)) for path, said in known]


def _by(plan: TrainingPlan, path: str) -> str:
    """Who set a field; of a block whoever has the last word on any field of it, as a person over a rule."""
    inside = [name for name in plan.provenance if name.startswith(f"{path}.")]
    return f"by {plan.whose(max((path, *inside), key=lambda p: list(Author).index(plan.set_by(p))))}"


def _nodes(plan: TrainingPlan) -> str:
    """How many nodes train together, where it is more than one."""
    launch = plan.launch
    processes = f"{launch.nproc} process{'' if launch.nproc == 1 else 'es'} on each"
    return f"{launch.nodes}, started by {launch.launcher.value}, {processes}" if launch.nodes > 1 else ""


def _gpus(plan: TrainingPlan) -> str:
    need, nodes = plan.resources, plan.launch.nodes
    if not need.gpus:
        return "none"
    memory = f"≥ {need.gpu_memory_mib / _MIB_PER_GIB:g} GiB" if need.gpu_memory_mib else ""
    kind = need.gpu_model or need.gpu_vendor
    if nodes > 1:
        return joined((f"{nodes * need.gpus} × {kind} ({nodes} nodes with {need.gpus} each)", memory))
    return joined((f"{need.gpus} × {kind}", memory))


def _cpu(plan: TrainingPlan) -> str:
    return f"{plan.resources.cores} cores" if plan.resources.cores else f"{plan.resources.cpu_mhz} MHz"


def _first_steps(plan: TrainingPlan) -> str:
    """Whether the job begins with some, and why it does not where that is not said by the person."""
    if plan.smoke.on:
        return f"{plan.smoke.steps} are measured before the rest begins"
    origin = plan.provenance.get("smoke.on")
    return "" if origin is None else joined(("not measured", origin.why), ": ")


def _setup(plan: TrainingPlan) -> str:
    setup = plan.setup
    apt = f"apt: {' '.join(setup.apt)}" if setup.apt else ""
    return joined((*requirement_files(plan), *setup.pip, apt, *setup.cmd))


def _driver(plan: TrainingPlan) -> str:
    return f"{plan.resources.gpu_driver} or newer" if plan.resources.gpu_driver else ""


def _because(plan: TrainingPlan, path: str) -> str:
    """Why a field is as it is, where a rule has set it."""
    origin = plan.provenance.get(path)
    return origin.why if origin is not None and origin.by not in STANDING else ""


_BATCH: Final = "training.micro_batch"
_CODE: Final = {
    "archive": "archive",
    "git": "git commit",
    "image": "in the image",
    "mount": "on a volume or the node",
}
_DATA: Final = {
    "volume": "on a volume, at {place}",
    "upload": "sent once to {where}, then at {place}",
    "shared": "read where it lies",
    "code": "in the code",
}


def _delivery(plan: TrainingPlan) -> list[tuple[str, str, str]]:
    """How code and data get to the job, and what of the code is not as it is committed."""
    code, data = plan.code, plan.data
    known = [
        f"{code.files} files" if code.files else "",
        _size(code.size_bytes),
        _short(code.ref or code.sha256),
    ]
    place = joined((code.location, f"directory {code.subdir}" if code.subdir else ""))
    rows = [("code", joined((_CODE[code.kind], place, *known)), _by(plan, "code"))]
    rows.append(("not committed", joined(code.uncommitted), ""))
    if plan.build is not None:
        made = f"built from {plan.build.dockerfile}, pushed as {plan.build.tag}"
        rows.append(("image", made + (" once this is approved" if plan.image == plan.build.tag else ""), ""))
    if data is None or data.kind is None:
        return [*rows, ("data", plan.dataset.path or "", _by(plan, "dataset.path"))]
    how = _DATA[data.kind].format(where=data.location, place=data.destination)
    size = joined(
        (
            f"{data.files} files" if data.files else "",
            _size(data.size_bytes),
            _short(data.sha256),
        )
    )
    return [*rows, ("data", joined((data.local or plan.dataset.path or "", how, size)), _by(plan, "data"))]


def _size(count: int | None) -> str:
    return "" if count is None else size_text(count)


def _short(digest: str | None) -> str:
    return (digest or "")[:12]


def _training(plan: TrainingPlan) -> list[tuple[str, str, str]]:
    """The hyperparameters that the plan sets; what it leaves to the repository is not shown."""
    given = {k: v for k, v in plan.training.model_dump(mode="json").items() if v not in (None, {})}
    rows = [(k, words(v), _by(plan, f"training.{k}")) for k, v in given.items() if k != "options"]
    options = given.get("options", {})
    return rows + [(k, words(v), _by(plan, f"training.options.{k}")) for k, v in options.items()]


def _gpu_memory(estimate: Estimate) -> str:
    if estimate.gpu_memory_gib is None:
        return ""
    total = f"of {estimate.gpu_total_gib:.1f} GiB" if estimate.gpu_total_gib else ""
    return joined((f"{estimate.gpu_memory_gib:.1f} GiB", total, f"({estimate.gpu})" if estimate.gpu else ""), " ")


def _likely(range_: Range, form: Callable[[float], str]) -> str:
    both = span(range_.low, range_.high, form)
    return both if form(range_.likely) == both else f"{form(range_.likely)} ({both})"
