"""Whether a plan makes a job that holds: rendered, read back as it was meant, possible on these nodes, and fitting.

For plans that nobody deploys: no cluster is asked. Nothing here changes a plan.
"""

from pathlib import Path

from caravan.hcl import HclError, mismatches, parse_hcl, render_hcl
from caravan.planning.checks import check_plan
from caravan.planning.estimate import estimate
from caravan.planning.jobspec import to_job_spec
from caravan.values.errors import PlanError
from caravan.values.job import ClusterFacts
from caravan.values.plan import TrainingPlan
from caravan.values.prices import Prices
from caravan.values.repo import RepoProfile


def unproved(plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, templates: Path) -> str:
    """Why the plan makes no job that holds; empty: it does. What can't be estimated speaks against nothing."""
    try:
        spec = to_job_spec(plan, facts, run_id="proof", attempt=1, job_id="proof-1", templates=templates)
        hcl = render_hcl(spec, templates=templates)
        job = parse_hcl(hcl)
    except PlanError as error:
        return error.message
    except HclError as error:
        return f"the job can't be read back: {error}"
    different = mismatches(spec, job)
    if different:
        return f"the job reads back differently: {different[0]}"
    problems = check_plan(plan, facts)
    if problems:
        return problems[0]
    found = estimate(plan, facts, prices=Prices(), profile=profile)
    return "it does not fit the memory of the GPUs that it asks for" if found.fits is False else ""
