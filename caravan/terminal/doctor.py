"""`doctor`: is everything there that a run needs? Settings, state directory, services, and the cluster.

Nothing is changed on the cluster, and none is started. Each check is bounded in time; what hangs on a failed one is
left out.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from typing import TYPE_CHECKING, Final

import typer

from caravan.terminal.options import ClusterOption, JsonOption, terminal_of, wiring_of
from caravan.terminal.road_checks import THREAD, config_findings, price_finding, road_findings
from caravan.terminal.text import one_line
from caravan.values.amounts import size_text
from caravan.values.checkup import AREA_EXIT_CODES, Area, Finding, Level
from caravan.values.errors import CaravanError, ClusterError, ServiceError, StateError
from caravan.values.job import ClusterKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.job import ClusterFacts
    from caravan.values.run import RunRequest

_PATIENCE_S: Final = 30.0  # for a database or memory that somebody else holds
_SHORT_S: Final = 5.0  # likewise, where runs go on beside us
_IN_USE: Final = "in use by another process"
_ROOM_MB: Final = 1024  # below that a code archive and logs may not fit
_LEAST_MB: Final = 50


def doctor(
    ctx: typer.Context,
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check settings, services, and the cluster with the token's rights.

    Nothing is changed on the cluster, and none is started. Exit code 0 where a run can be tried (warnings included),
    2 where the settings or the state directory are wrong, 4 where the cluster is, 5 where another service is.
    """
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    findings: list[Finding] = []
    for finding in _all(wiring, cluster):
        findings.append(finding)
        if not as_json:
            _show(terminal, finding)
    code = _exit_code(findings)
    if as_json:
        terminal.document(_document(findings, code))
    else:
        terminal.out(_sum(findings))
    terminal.exit_code = code
    return code


def _all(wiring: Wiring, cluster: str | None) -> Iterator[Finding]:
    from caravan.terminal.text import one_line
    from caravan.values.masking import mask

    settings = _settings(wiring)
    yield settings
    if settings.level is Level.FAILURE:
        return  # everything else is made from them
    secrets = wiring.secrets()
    for part in (
        config_findings(wiring),
        _home(wiring),
        _services(wiring),
        _models(wiring),
        _langfuse(wiring),
        _cluster(wiring, cluster),
    ):
        for finding in part:
            safe = {"text": one_line(mask(finding.text, secrets)), "hint": one_line(mask(finding.hint, secrets))}
            yield finding.model_copy(update=safe)


def _settings(wiring: Wiring) -> Finding:
    try:
        rows = wiring.settings()
    except CaravanError as error:
        return _failed(Area.SETTINGS, "settings", error)
    own = sum(1 for row in rows if row.source != "default")
    return Finding(
        area=Area.SETTINGS,
        name="settings",
        level=Level.OK,
        text=f"{own} set; `main.py config` shows where each comes from.",
    )


def _home(wiring: Wiring) -> Iterator[Finding]:
    try:
        home = wiring.home
        yield _writable(home)
        yield from _mode(home)
        yield from _room(home)
    except (CaravanError, OSError) as error:
        yield _failed(Area.SETTINGS, "state directory", error)
        return
    yield _checked(wiring, Area.SETTINGS, "database", lambda: _runs(wiring))
    yield _checked(wiring, Area.SETTINGS, "checkpoints", lambda: _checkpoints(wiring))


def _writable(home: Path) -> Finding:
    if not os.access(home, os.W_OK | os.X_OK):
        raise StateError(f"{home} can't be written to.", hint="Set CARAVAN_HOME to a directory of yours.")
    return Finding(area=Area.SETTINGS, name="state directory", level=Level.OK, text=f"{home} can be written to.")


def _mode(home: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & 0o077:
        text = f"Others can look into {home} (mode {mode:04o}): it holds logs and plans."
        hint = f"chmod 700 {home}"
        yield Finding(area=Area.SETTINGS, name="permissions", level=Level.WARNING, text=text, hint=hint)


def _room(home: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(home).free >> 20
    level = Level.FAILURE if free < _LEAST_MB else Level.WARNING if free < _ROOM_MB else Level.OK
    hint = "" if level is Level.OK else "Make room on that disk, or `main.py delete` old runs."
    yield Finding(area=Area.SETTINGS, name="room", level=level, text=f"{size_text(free << 20)} are free.", hint=hint)


def _runs(wiring: Wiring) -> str:
    from caravan.values.run import ENDED

    runs = wiring.store().runs(limit=200)
    held = [r.id for r in runs if r.status not in ENDED and wiring.folder(r.id).is_held()]
    driven = f"; agents drive {', '.join(held)} now" if held else ""
    count = f"{len(runs)}{' or more' if len(runs) == 200 else ''} runs{driven}"
    return f"It opens; {count}. {wiring.database().sentence()}"


def _checkpoints(wiring: Wiring) -> str:
    with wiring.driver():
        return "They open."


def _services(wiring: Wiring) -> Iterator[Finding]:
    def look() -> str:
        with wiring.memory() as memory:
            memory.all(limit=1)
        return f"It opens: {where}."

    url = next((row.value for row in wiring.settings() if row.name == "qdrant_url"), "")
    where = f"Qdrant at {url}" if url else "Qdrant embedded in the state directory"

    found = _checked(wiring, Area.SERVICE, "memory", look)
    if found.level is Level.FAILURE and "switched off" in found.text:
        found = found.model_copy(update={"level": Level.OK, "hint": ""})
    yield found


def _models(wiring: Wiring) -> Iterator[Finding]:
    from caravan.terminal.model_checks import model_findings

    try:
        with wiring.model_servers() as servers:
            yield from model_findings(servers)
    except CaravanError as error:  # an address or a key file that can't be used
        yield _failed(Area.SETTINGS, "model", error)


def _langfuse(wiring: Wiring) -> Iterator[Finding]:
    from caravan.terminal.langfuse_checks import langfuse_findings

    try:
        with wiring.langfuse() as server, wiring.prompts() as shelf:
            yield from langfuse_findings(server, shelf, wiring.clock)
    except CaravanError as error:  # keys without an address, and the like
        yield _failed(Area.SETTINGS, "langfuse", error)


def _cluster(wiring: Wiring, name: str | None) -> Iterator[Finding]:
    from caravan.terminal.checkup import cluster_findings
    from caravan.terminal.image_checks import image_findings
    from caravan.values.run import RunRequest

    try:
        target = wiring.target(name)
        request = RunRequest(
            prompt="", source="", cluster=target.address, namespace=target.namespace, profile=target.profile
        )
        said = f"profile {target.profile}: {target.address}" if target.profile else target.address
        yield Finding(area=Area.SETTINGS, name="profile", level=Level.OK, text=f"{said}, namespace {target.namespace}.")
        yield _policies(wiring, request)
        yield price_finding(wiring, request)
        yield from road_findings(wiring, request)
        exam = wiring.examine(request)
    except CaravanError as error:
        yield _failed(Area.CLUSTER if isinstance(error, ClusterError) else Area.SETTINGS, "cluster", error)
        return
    if exam is None:
        text = "The built-in cluster does not run: the first run starts it, or `main.py cluster up`."
        yield Finding(area=Area.CLUSTER, name="cluster", level=Level.OK, text=text)
        return
    yield from cluster_findings(exam, wiring.clock.now())
    if _pulls(exam.facts):
        yield from image_findings(wiring.images(request))


def _pulls(facts: ClusterFacts | None) -> bool:
    """Whether nodes pull images from registries: those of the built-in cluster have what its inventory says."""
    nodes = facts.usable_nodes() if facts is not None and facts.kind is ClusterKind.NOMAD else ()
    return any("docker" in node.drivers for node in nodes)


def _policies(wiring: Wiring, request: RunRequest) -> Finding:
    found = wiring.policies(request)
    if found.trouble:
        hint = "Nothing is deployed before whoever administers it has mended it."
        return Finding(area=Area.SETTINGS, name="policy", level=Level.FAILURE, text=found.trouble, hint=hint)
    text = f"In force: {', '.join(f.path for f in found.files)}." if found.files else "None is in force."
    return Finding(area=Area.SETTINGS, name="policy", level=Level.OK, text=text)


class _Caught:
    """Keeps what is raised inside, so that a thread's error is told where it is asked for, and is no silence."""

    error: BaseException | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return True


def _checked(wiring: Wiring, area: Area, name: str, look: Callable[[], str]) -> Finding:
    """What `look` says, in bounded time; its error where it fails. What a run beside us holds is no failure."""
    said: list[str] = []
    caught = _Caught()

    def work() -> None:
        with caught:
            said.append(look())

    thread = threading.Thread(target=work, daemon=True, name=THREAD)
    thread.start()
    thread.join(min(_SHORT_S, _PATIENCE_S))
    driven = _driven(wiring) if thread.is_alive() else []
    if not driven:
        thread.join(max(_PATIENCE_S - _SHORT_S, 0.0))
    failed = caught.error
    if failed is not None and _IN_USE in str(failed):
        text = "Another process uses it now, as runs do for moments: it could not be looked at."
        return Finding(area=area, name=name, level=Level.WARNING, text=text, hint="Ask again a little later.")
    if isinstance(failed, CaravanError | OSError):
        return _failed(Area.SERVICE if isinstance(failed, ServiceError) else area, name, failed)
    if failed is not None:
        text = one_line(f"It can't be looked at ({type(failed).__name__}): {failed}", 300)
        hint = "That was not foreseen: `main.py --debug doctor` shows where it comes from."
        return Finding(area=area, name=name, level=Level.FAILURE, text=text, hint=hint)
    if not said:
        if driven:
            text = f"No answer within {_SHORT_S:.0f} s: the agents of {', '.join(driven)} use it now."
            return Finding(area=area, name=name, level=Level.WARNING, text=text, hint="Ask again a little later.")
        text = f"No answer within {_PATIENCE_S:.0f} s: somebody else holds it, or its disk hangs."
        return Finding(area=area, name=name, level=Level.FAILURE, text=text)
    return Finding(area=area, name=name, level=Level.OK, text=said[0])


def _driven(wiring: Wiring) -> list[str]:
    """Runs whose agents work now, by their folders alone: the database may be what does not answer."""
    try:
        ids = sorted(path.name for path in (wiring.home / "runs").iterdir() if path.is_dir())
        return [run_id for run_id in ids if wiring.folder(run_id).is_held()]
    except (CaravanError, OSError):
        return []


def _failed(area: Area, name: str, error: CaravanError | OSError) -> Finding:
    if isinstance(error, CaravanError):
        return Finding(area=area, name=name, level=Level.FAILURE, text=error.message, hint=error.hint)
    return Finding(area=area, name=name, level=Level.FAILURE, text=f"It can't be used ({error.strerror}).")


def _exit_code(findings: Sequence[Finding]) -> int:
    failed = {f.area for f in findings if f.level is Level.FAILURE}
    return next((AREA_EXIT_CODES[area] for area in Area if area in failed), 0)


def _show(terminal: Terminal, finding: Finding) -> None:
    word = {Level.OK: "ok", Level.WARNING: "warning", Level.FAILURE: "FAILURE", Level.SKIPPED: "skipped"}
    terminal.out(f"{word[finding.level]:<8} {finding.name:<15} {finding.text}")
    if finding.hint:
        terminal.out(f"{'':<24} {finding.hint}")


def _sum(findings: Sequence[Finding]) -> str:
    failed, warned = (sum(1 for f in findings if f.level is level) for level in (Level.FAILURE, Level.WARNING))
    warnings = f"{warned} warning{'' if warned == 1 else 's'}"
    if failed:
        return f"Not ready: {failed} of {len(findings)} checks failed, {warnings}."
    return f"Ready: {len(findings)} checks, {warnings}."


def _document(findings: Sequence[Finding], code: int) -> dict[str, Json]:
    return {
        "ready": code == 0,
        "exit_code": code,
        "summary": _sum(findings),
        "checks": [f.model_dump(mode="json") for f in findings],
    }
