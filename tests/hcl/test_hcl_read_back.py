"""Reading a job's JSON, whoever gave it, and saying where it differs from the spec."""

import copy

import pytest

from caravan import TEMPLATES
from caravan.hcl import HclError, mismatches, normal_form, parse_hcl, read_back, render_hcl
from caravan.values.job import JobSpec, NetworkPort, Task, TaskGroup, TaskResources

SPEC = JobSpec(
    id="run-1",
    groups=(
        TaskGroup(
            name="train",
            ports=(NetworkPort(label="free"), NetworkPort(label="fixed", static=8080)),
            tasks=(Task(name="train", driver="raw_exec", config={"command": "x"}, resources=TaskResources(memory=64)),),
        ),
    ),
).sealed()
JOB = parse_hcl(render_hcl(SPEC, templates=TEMPLATES))


def test_a_servers_job_reads_as_the_parsers() -> None:
    job = copy.deepcopy(JOB)
    job.update(NodePool="default", Status="pending", CreateIndex=12, SubmitTime=1, Affinities=None, Spreads=[])
    resources = job["TaskGroups"][0]["Tasks"][0]["Resources"]
    resources.update(MemoryMaxMB=0, DiskMB=0, Devices=[])
    assert mismatches(SPEC, job) == ()
    assert read_back(job).meta == SPEC.meta
    assert read_back(job) == normal_form(SPEC)


def test_equal_sayings_are_one() -> None:
    same = SPEC.model_copy(update={"namespace": "default", "region": "global", "node_pool": "default"})
    assert normal_form(same) == normal_form(SPEC)
    assert mismatches(same, JOB) == ()


def test_differences_in_words() -> None:
    job = copy.deepcopy(JOB)
    job["TaskGroups"][0]["Count"] = 3
    job["TaskGroups"][0]["Tasks"][0]["Config"] = {"command": "y", "args": ["z"]}
    assert mismatches(SPEC, job) == (
        "job.groups[0].count: the spec has 1, the job has 3",
        "job.groups[0].tasks[0].config.args: the job has ['z'], the spec does not have it",
        "job.groups[0].tasks[0].config.command: the spec has 'x', the job has 'y'",
    )


@pytest.mark.parametrize("job", [{}, {"ID": 3, "Type": "batch"}, {"ID": "x", "Type": "batch", "TaskGroups": [{}]}])
def test_what_is_no_job_is_refused(job: dict[str, object]) -> None:
    with pytest.raises(HclError, match="not of the expected shape"):
        read_back(job)
