"""Whatever a JobSpec holds, its job file reads back as the same spec; no text makes the parser crash."""

import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.hcl import HclError, mismatches, normal_form, parse_hcl, read_back, render_hcl
from caravan.values.job import JobSpec, Task, TaskGroup, TaskResources, TemplateBlock
from tests.hcl.specs import NASTY, SPECS

QUICK = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def spec_with(data: str) -> JobSpec:
    template = TemplateBlock(destination="local/x", data=data)
    task = Task(name="t", driver="docker", env={"X": data}, resources=TaskResources(memory=64), templates=(template,))
    return JobSpec(id="x", groups=(TaskGroup(name="g", tasks=(task,)),))


@settings(QUICK, max_examples=40)
@given(SPECS)
def test_a_spec_reads_back_as_itself(spec: JobSpec) -> None:
    text = render_hcl(spec, templates=TEMPLATES)
    job = parse_hcl(text)
    assert read_back(job) == normal_form(spec) == normal_form(normal_form(spec))
    assert mismatches(spec, job) == ()
    assert json.loads(json.dumps(job, allow_nan=False)) == job
    assert text == render_hcl(JobSpec.model_validate_json(spec.model_dump_json()), templates=TEMPLATES)


@QUICK
@given(st.lists(st.sampled_from(NASTY), max_size=30).map("".join))
@example("a\nb\n")
@example("EOT\nEOT2\nEOT3\n")
@example("${NOMAD_ALLOC_DIR}}\n${attr.x} }\n")
@example("$${NOMAD_ALLOC_DIR}")
@example("line\r\nline\n")
def test_every_text_is_kept(text: str) -> None:
    spec = spec_with(text)
    task = read_back(parse_hcl(render_hcl(spec, templates=TEMPLATES))).groups[0].tasks[0]
    want = normal_form(spec).groups[0].tasks[0]
    assert task.templates[0].data == want.templates[0].data
    assert task.env == want.env


SAMPLE = render_hcl(spec_with("one\ntwo ${x}\n"), templates=TEMPLATES)
PIECES = (
    '"',
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "=",
    ",",
    "\n",
    "${",
    "%{",
    "<<EOT\n",
    "for",
    "if",
    "?",
    "*",
    "...",
    "\\",
    "é",
)


def survives(text: str) -> None:
    with suppress(HclError):
        job = parse_hcl(text)
        assert job["TaskGroups"] is None or isinstance(job["TaskGroups"], list)


@QUICK
@given(st.text(max_size=60))
@example("{" * 3000)
@example("a = " + "(" * 3000)
@example("a = " + "-" * 5000 + "1\n")
@example("a = " + "+".join(["1"] * 3000) + "\n")
@example("a = 1e999999999\n")
@example('job "x" {\n  priority = 1e99999 * 1e99999\n}\n')
@example('job "x" {\n  type = range(0, 1e9)\n}\n')
@example('job "x" {\n  type = format("%999999999d", 1)\n}\n')
@example('job "x" {\n  group "g" {\n    task "t" {\n      config {\n        a = 1e400\n      }\n    }\n  }\n}\n')
@example('job "\ud800" {}')
@example('job "x" {\n type = "${"\n')
def test_random_text_is_parsed_or_refused(text: str) -> None:
    survives(text)


@QUICK
@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 12), st.sampled_from(PIECES) | st.text(max_size=3))
def test_mutated_job_files_are_parsed_or_refused(at: int, cut: int, piece: str) -> None:
    survives(SAMPLE[:at] + piece + SAMPLE[at + cut :])


@pytest.mark.parametrize("make", [lambda s: s.upper(), lambda s: s.replace("{", "", 1), lambda s: s[: len(s) // 2]])
def test_broken_files_are_refused_with_a_place(make: Callable[[str], str]) -> None:
    with pytest.raises(HclError, match=r"^input\.hcl:\d+,\d+-"):
        parse_hcl(make(SAMPLE))
