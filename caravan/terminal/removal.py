"""`stop` and `delete`: ending a run's job on the cluster, and removing what a run left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, RunArgument, terminal_of, wiring_of
from caravan.terminal.stopping import end, jobs_that_live, open_deployments, running_jobs, stop_jobs, stop_run
from caravan.terminal.text import one_line
from caravan.values.errors import RunBusy, UsageError

if TYPE_CHECKING:
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.registry import ModelVersion
    from caravan.values.run import Deployment, RunRecord


def stop(ctx: typer.Context, run: RunArgument, as_json: JsonOption = False) -> None:
    """Stop a run and its job on the cluster.

    Nothing is repaired afterwards. Stopping twice is stopping once. Of a run that had ended, a job that still runs is
    told to end. A job that somebody else changed is left alone.
    """
    from caravan.terminal.oncluster import call_back
    from caravan.values.run import ENDED, RunStatus

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    record = call_back(wiring, wiring.store().run(run))
    ended = record.status in ENDED and record.status is not RunStatus.STOPPED
    if ended:
        living = jobs_that_live(wiring, record)
        end(wiring, record, living.ours)
        jobs = f" Its job {_named(living.ours)} still ran and was told to end." if living.ours else ""
        told = [one_line(deployment.job_id) for deployment in living.ours]
        said = f"Run {record.id} had ended already ({record.status.value}).{jobs}"
    else:
        before = [] if record.status is RunStatus.STOPPED else open_deployments(wiring, record)
        stopped = stop_run(wiring, record)
        living = jobs_that_live(wiring, record)
        nothing = "" if living.others else " No job of it was left to end."
        stopped += [job for job in _told(wiring, record, before) if job not in stopped]
        jobs = f" Its job {', '.join(stopped)} was told to end." if stopped else nothing
        told, said = stopped, f"Run {record.id} is stopped.{jobs}"
    unfinished = not ended and bool(open_deployments(wiring, record))
    if as_json:
        if unfinished:
            _write_down(wiring, terminal, record)
        left: list[Json] = [{"job_id": d.job_id, "namespace": d.namespace} for d in living.others]
        status = wiring.store().run(record.id).status.value
        ended_jobs: list[Json] = list(told)
        terminal.document({"run_id": record.id, "status": status, "stopped": ended_jobs, "left_alone": left})
        return
    terminal.out(said)
    if unfinished:
        _write_down(wiring, terminal, record)
    for deployment in living.others:
        space = f"-namespace={one_line(deployment.namespace)} " if deployment.namespace != "default" else ""
        job = one_line(deployment.job_id)
        text = f"The job {job} still runs as somebody else changed it, and is left alone: `nomad job stop {space}{job}`"
        terminal.out(f"{text} ends it.")


def _told(wiring: Wiring, record: RunRecord, deployments: list[Deployment]) -> list[str]:
    """Which of these jobs were told to end: an agent that saw the mark may have done so before we came to it."""
    if not deployments or (record.request.cluster == "local" and wiring.local_cluster.status() is None):
        return []
    cluster = wiring.cluster(record.request)
    found = ((d.job_id, cluster.find(d.job_id, d.namespace)) for d in deployments)
    return [one_line(job_id) for job_id, job in found if job is not None and job.stopped]


def _write_down(wiring: Wiring, terminal: Terminal, record: RunRecord) -> None:
    """Follow the last job to its end for its log and the report, where no agent does that."""
    from caravan.terminal.progress import make_view

    if wiring.folder(record.id).is_held():
        return
    terminal.stdout.flush()
    terminal.err("Its last lines and the report are written when it has ended; Ctrl-C leaves without them.")
    view = make_view(terminal, wiring.clock, as_json=False)
    try:
        with wiring.driver() as driver, wiring.context(record, view) as context, view:
            driver.drive(context.store.run(record.id), context)
    except RunBusy:  # an agent took it up meanwhile, and does this
        return


def _named(deployments: list[Deployment]) -> str:
    return ", ".join(one_line(d.job_id) for d in deployments)


def delete(
    ctx: typer.Context,
    run: RunArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask, and stop a job that still runs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a run with its logs and outputs."""
    from caravan.terminal.oncluster import bring_back

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    store = wiring.store()
    record = bring_back(wiring, store.run(run))  # raises while its agent on the cluster works
    folder = wiring.folder(record.id)
    with folder.lock():
        running, model = running_jobs(wiring, record), _model_that_goes(wiring, record)
        if not yes and not _may_delete(terminal, record, running, model):
            if as_json:
                terminal.document({"run_id": record.id, "deleted": False})
            else:
                terminal.out(f"Run {record.id} was not deleted.")
            return
        if running:
            stop_jobs(wiring, record)
        _purge_from_our_own(wiring, record)
        with wiring.driver() as driver:
            driver.forget(record.id)
        trace = wiring.trace_path(record.id)
        for file in (trace, trace.with_suffix(".sent.json"), trace.with_suffix(".waited.json")):
            file.unlink(missing_ok=True)
        folder.delete()
        store.delete_run(record.id)  # last: a deletion that was cut short can be repeated
    if as_json:
        terminal.document({"run_id": record.id, "deleted": True, "model_without_files": model.ref if model else None})
        return
    gone = f" {model.ref} stays registered, and its files are gone." if model else ""
    terminal.out(f"Run {record.id} is deleted.{gone}")


def _model_that_goes(wiring: Wiring, record: RunRecord) -> ModelVersion | None:
    """The run's registered model, where its files would be deleted with the run.

    Raises UsageError where it is in use: in staging or in production.
    """
    from caravan.values.registry import ModelStage

    model = wiring.models().of_run(record.id)
    if model is None:
        return None
    address = model.files.address
    own = Path(address).is_relative_to(wiring.folder(record.id).path)
    if not own and not (address.startswith("allocation:") and record.request.cluster == "local"):
        return None
    if model.stage in (ModelStage.STAGING, ModelStage.PRODUCTION):
        raise UsageError(
            f"The files of {model.ref}, which is in {model.stage.value}, lie with run {record.id}.",
            hint=f"Keep the run, or take it out of use first: `main.py models archive {model.ref}`.",
        )
    return model


def _purge_from_our_own(wiring: Wiring, record: RunRecord) -> None:
    """Let the built-in cluster forget the run's jobs, whose folders hold code and raw logs, if it runs."""
    deployments = wiring.store().deployments(record.id)
    if record.request.cluster == "local" and deployments and wiring.local_cluster.status() is not None:
        cluster = wiring.cluster(record.request)
        for deployment in deployments:
            cluster.stop(deployment.job_id, deployment.namespace, purge=True)


def _may_delete(terminal: Terminal, record: RunRecord, running: list[str], model: ModelVersion | None) -> bool:
    """Whether the person agrees. Raises UsageError where nobody can be asked and a job still runs."""
    from caravan.terminal.dialogue import confirm

    if terminal.interactive:
        jobs = f" Its job {', '.join(running)} still runs and will be stopped." if running else ""
        files = f" They are the files of the registered model {model.ref}." if model else ""
        return confirm(terminal, f"Delete run {record.id} with its logs and outputs?{jobs}{files}")
    if model is not None:
        raise UsageError(
            f"The outputs of run {record.id} are the files of the registered model {model.ref}.",
            hint=f"`main.py models export {model.ref} --to DIR` keeps them; `--yes` deletes them.",
        )
    if running:
        raise UsageError(
            f"The job {', '.join(running)} of run {record.id} still runs.",
            hint=f"Stop it with `main.py stop {record.id}`, or delete with --yes.",
        )
    return True
