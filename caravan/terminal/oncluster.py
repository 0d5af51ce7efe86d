"""`--on-cluster`: handing a run over to an agent that is itself a job of the cluster, and bringing the run back.

While that job lives the run is its; what stands here is a copy that may be brought up to date. Afterwards the run goes
on here, from what the agent left, or, where that is lost, from where it was handed over: jobs that were deployed
meanwhile have ids and specifications that follow from the run, and are found before they would be registered.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from caravan.terminal.results import PAGE
from caravan.values.errors import CaravanError, RunBusy, StateError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from caravan.agent.driver import Driver
    from caravan.ports import Cluster, RunFolder
    from caravan.terminal.results import Result
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.handover import AgentPlace, Bundle, Carried, Stationed
    from caravan.values.job import ClusterFacts
    from caravan.values.run import RunRecord, RunRequest

_KEY: Final = "station"
_LONGEST_TRACE: Final = 1 << 20  # bytes that travel with a run
_AT_HOME: Final = ("token_env", "token_file", "cacert", "capath", "client_cert", "client_key", "policy", "prices_file")
"""What a profile says of this machine alone."""


# --- going ----------------------------------------------------------------------------------------------------------


def check_place(wiring: Wiring, request: RunRequest) -> tuple[AgentPlace, str, tuple[str, ...]]:
    """The agent's place, its driver and the names of what it is lent. Raises UsageError for what is missing."""
    from caravan.planning.agent_job import agent_driver

    place, policies = wiring.agent_place(request), wiring.policies(request)
    cluster = wiring.cluster(request)
    facts = cluster.facts()
    driver = agent_driver(place, facts, policies, remote=_is_remote(request.source))
    return place, driver, _lent(place, request, cluster, facts)


def _lent(place: AgentPlace, request: RunRequest, cluster: Cluster, facts: ClusterFacts) -> tuple[str, ...]:
    if request.send_secrets:
        return place.lends
    if place.needs_token:  # the built-in cluster's own, which opens nothing else
        return tuple(name for name in place.lends if name == "NOMAD_TOKEN")
    if cluster.token() is not None:
        raise UsageError(
            f"The cluster {facts.address} asks for a token, and an agent there has none.",
            hint="Give --send-secrets: the token in use is written to a Nomad variable that this agent alone may read.",
        )
    return ()


def _is_remote(source: str) -> bool:
    return "://" in source and not source.startswith("file:")


def send(wiring: Wiring, record: RunRecord, *, templates: Path, send_secrets: bool = False) -> Stationed:
    """Hand the run over to an agent on its cluster, which begins as soon as it has a place there.

    Raises what is wrong, and then the run is still ours.
    """
    from caravan.agent import station
    from caravan.planning.agent_job import agent_job, agent_job_id, lent_at
    from caravan.runs.bundle import gather
    from caravan.values.handover import Stationed

    folder, store = wiring.folder(record.id), wiring.store()
    request = record.request.model_copy(update={"send_secrets": send_secrets or record.request.send_secrets})
    place, driver, lent = check_place(wiring, request)
    cluster = wiring.cluster(request)
    with folder.lock(), wiring.driver() as driving:
        state = driving.state(record.id)
        if state is None or state.plan is None:
            raise StateError(f"Run {record.id} has no plan yet.")
        policies = wiring.policies(request)
        carried = _carried(wiring, request, folder)
        packed = _packed(wiring, gather(store, folder, record.id, driving.export(record.id), carried))
        namespace, job_id = state.need_deployment().namespace, agent_job_id(record.id)
        spec = agent_job(place, state.plan, record.id, driver=driver, packed=packed, lent=lent, namespace=namespace)
        job = station.job_of(spec, cluster, policies, templates)
        at = Stationed(job_id=job_id, namespace=namespace, lent=lent_at(job_id) if lent else "")
        _remember(folder, at)  # before there is anything on the cluster, so that nothing is left there unknown
        try:
            if lent:
                wiring.lend(request, lent, at.lent, namespace)
            station.register(cluster, spec, job)
        except CaravanError:
            if not station.works(cluster, at):
                _remove(cluster, folder, at)
            raise
    return at


def _packed(wiring: Wiring, bundle: Bundle) -> str:
    """The bundle with the run's trace as it stands here, or without it where that is too long to travel."""
    from caravan.runs.bundle import pack

    path = wiring.trace_path(bundle.record.id)
    try:
        found = path.read_bytes() if path.stat().st_size <= _LONGEST_TRACE else b""
    except OSError:  # there is none
        found = b""
    try:
        return pack(bundle.model_copy(update={"trace": found.decode("utf-8", "replace")}))
    except UsageError:
        return pack(bundle)


def _keep_trace(wiring: Wiring, bundle: Bundle) -> None:
    """Add what the other side wrote to the trace here: each line once, and whole lines alone."""
    path = wiring.trace_path(bundle.record.id)
    if not bundle.trace:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b") as file:
            here = file.read()
            known = set(here.split(b"\n"))
            new = [line for line in bundle.trace.encode().split(b"\n") if line.endswith(b"}") and line not in known]
            torn = b"\n" if new and here and not here.endswith(b"\n") else b""
            file.write(torn + b"".join(line + b"\n" for line in new))
    except OSError:  # a trace stops no run
        return


def _carried(wiring: Wiring, request: RunRequest, folder: RunFolder) -> Carried:
    from caravan.values.handover import Carried

    site = wiring.site(request)
    if site is not None:
        profile = site.profile.model_copy(update=dict.fromkeys(_AT_HOME))
        site = site.model_copy(update={"profile": profile})
    return Carried(site=site, policies=wiring.policies(request), own=str(folder.path), prices=wiring.prices(request))


def show_sent(terminal: Terminal, result: Result, at: Stationed, *, as_json: bool) -> None:
    """Say that the run goes on without this machine, and how to look at it."""
    run_id = result.record.id
    if as_json:
        from caravan.terminal.results import document

        agent: dict[str, Json] = at.model_dump(mode="json", exclude={"lent"})
        terminal.document({**document(result), "exit_code": 0, "agent": agent})
        return
    terminal.out(f"Run {run_id} goes on on the cluster (agent job {at.job_id}); this machine may be switched off.")
    for what, command in (("look at it", "watch"), ("its result", "resume"), ("end it", "stop")):
        terminal.out(f"  {what:<11}main.py {command} {run_id}")


# --- there ----------------------------------------------------------------------------------------------------------


def take_over(wiring: Wiring, run_id: str, file: Path) -> None:
    """As the agent on the cluster: take over the packed run, unless it was taken over here before."""
    from caravan.runs.bundle import checkpoint_of, put, unpack

    try:
        bundle = unpack(file.read_bytes())
    except OSError as error:
        raise StateError(f"The packed run {file} can't be read ({error.strerror}).") from error
    if bundle.record.id != run_id:
        raise StateError(f"The packed run is {bundle.record.id}, not {run_id}.")
    with wiring.driver() as driver:
        if driver.state(run_id) is not None:
            return
        request = bundle.record.request.model_copy(update={"cluster": wiring.target(None).address})
        bundle = bundle.model_copy(update={"record": bundle.record.model_copy(update={"request": request})})
        folder = wiring.folder(run_id)
        folder.save_carried(bundle.carried)  # first of all: nothing is done here that is not allowed there
        put(bundle, wiring.store(), folder, wiring.clock)
        _keep_trace(wiring, bundle)
        driver.adopt(bundle.record, checkpoint_of(bundle), folder.path)


def leave(wiring: Wiring, run_id: str, file: Path, driver: Driver) -> None:
    """As the agent on the cluster: leave the run as it stands, for whoever brings it back.

    One that has become too large is left without its report's page, which can be made anew, else without its papers.
    """
    from caravan.runs.bundle import gather, pack
    from caravan.runs.files import state_errors, write_file
    from caravan.values.handover import Carried

    folder = wiring.folder(run_id)
    bundle = gather(wiring.store(), folder, run_id, driver.export(run_id), folder.carried() or Carried())
    papers = {name: text for name, text in bundle.papers.items() if name != PAGE}
    smaller: tuple[dict[str, object], ...] = ({}, {"papers": papers}, {"papers": {}, "events": ()})
    packed = None
    for left_out in smaller:
        try:
            packed = _packed(wiring, bundle.model_copy(update=left_out))
            break
        except UsageError:
            continue
    packed = packed or pack(bundle.model_copy(update=smaller[-1]))
    with state_errors(file):
        write_file(file, packed.encode("ascii"))


# --- back -----------------------------------------------------------------------------------------------------------


def station_of(folder: RunFolder) -> Stationed | None:
    """Where the run's agent on the cluster is, or was until it is brought back; None: it was never handed over so."""
    told = folder.agent()
    document = told.get(_KEY) if isinstance(told, dict) else None
    if not isinstance(document, dict):
        return None
    from caravan.values.handover import Stationed

    try:
        return Stationed.model_validate(document)
    except ValueError as error:  # pydantic's
        raise StateError(
            f"agent.json in {folder.path} is damaged: where the run's agent works on the cluster can't be told.",
            hint="Look for a job caravan-agent-… on the cluster, or remove that file to go on from here.",
        ) from error


def works_there(wiring: Wiring, record: RunRecord) -> Stationed | None:
    """The run's agent on the cluster, if it lives. Raises ClusterError when the cluster does not answer."""
    from caravan.agent import station

    at = station_of(wiring.folder(record.id))
    if at is None or _is_down(wiring, record):
        return None
    return at if station.works(wiring.cluster(record.request), at) else None


def _is_down(wiring: Wiring, record: RunRecord) -> bool:
    """Whether it is the built-in cluster and does not run: then no agent does."""
    return record.request.cluster == "local" and wiring.local_cluster.status() is None


def catch_up(wiring: Wiring, record: RunRecord) -> None:
    """Take what the agent has left so far into the copy here. Nothing is begun or ended."""
    from caravan.agent import station

    folder = wiring.folder(record.id)
    at = station_of(folder)
    if at is None or _is_down(wiring, record):
        return
    with folder.lock():
        _adopt(wiring, record, station.left(wiring.cluster(record.request), at))


def bring_back(wiring: Wiring, record: RunRecord) -> RunRecord:
    """The run as it is when it is ours again: what its agent left is taken over, and its job removed.

    Raises RunBusy while the agent works, ClusterError when the cluster does not answer.
    """
    from caravan.agent import station

    folder = wiring.folder(record.id)
    at = station_of(folder)
    if at is None:
        return record
    cluster = wiring.cluster(record.request)
    with folder.lock():
        if station.works(cluster, at):
            raise busy(record, at)
        _adopt(wiring, record, station.left(cluster, at))
        _keep_words(folder, station.words(cluster, at))
        _remove(cluster, folder, at)
    return wiring.store().run(record.id)


def call_back(wiring: Wiring, record: RunRecord) -> RunRecord:
    """End the run's agent on the cluster, if there is one, and bring the run back."""
    from caravan.agent import station

    at = works_there(wiring, record)
    if at is not None:
        station.end(wiring.cluster(record.request), at, wiring.clock)
    return bring_back(wiring, record)


def busy(record: RunRecord, at: Stationed) -> RunBusy:
    """What to say while the agent works."""
    return RunBusy(
        f"The run {record.id} is driven by an agent on the cluster (job {at.job_id}).",
        hint=f"`main.py watch {record.id}` shows it, `main.py stop {record.id}` ends it.",
    )


def _adopt(wiring: Wiring, record: RunRecord, left: list[bytes]) -> None:
    """Take over the newest of what was left. What is damaged counts as lost."""
    from caravan.runs.bundle import checkpoint_of, put, unpack

    bundles: list[Bundle] = []
    for data in left:
        try:
            bundle = unpack(data)
        except StateError:
            continue
        if bundle.record.id == record.id:
            bundles.append(bundle)
    folder, store = wiring.folder(record.id), wiring.store()
    for bundle in sorted(bundles, key=lambda b: b.record.updated_at):
        _keep_trace(wiring, bundle)
        home = bundle.record.model_copy(update={"request": record.request, "created_at": record.created_at})
        with wiring.driver() as driver:
            if driver.adopt(home, checkpoint_of(bundle), folder.path):
                put(bundle.model_copy(update={"record": home}), store, folder, wiring.clock)


def _keep_words(folder: RunFolder, said: bytes) -> None:
    if said:
        from caravan.runs.files import state_errors

        path = folder.agent_log
        with state_errors(path), path.open("ab") as log:
            log.write(said)


def _remember(folder: RunFolder, at: Stationed | None) -> None:
    folder.save_agent({_KEY: at.model_dump(mode="json")} if at else None)


def _remove(cluster: Cluster, folder: RunFolder, at: Stationed) -> None:
    from caravan.agent import station

    station.remove(cluster, at)
    _remember(folder, None)
