"""The parser gives every answer that a real Nomad gave."""

import json
from pathlib import Path
from typing import Any

import pytest

from caravan.hcl import HclError, parse_hcl

RECORDINGS = Path(__file__).parent.parent / "data" / "nomad-recordings"
PARSED = [
    pytest.param(exchange["body"].get("JobHCL") or "", exchange["answer"], id=f"{path.stem}-{i}")
    for path in sorted(RECORDINGS.glob("*.json"))
    for i, exchange in enumerate(json.loads(path.read_text()).get("exchanges", ()))
    if exchange["path"].startswith("/v1/jobs/parse")
]


def test_there_are_recordings() -> None:
    assert len(PARSED) > 40


@pytest.mark.parametrize(("text", "answer"), PARSED)
def test_recorded_answers(text: str, answer: Any) -> None:
    if isinstance(answer, dict):
        assert parse_hcl(text) == answer
        return
    with pytest.raises(HclError) as refused:
        parse_hcl(text)
    assert refused.value.message == answer.removeprefix("Failed to parse job: ")


def test_an_error_knows_its_place() -> None:
    with pytest.raises(HclError) as refused:
        parse_hcl('job "x" {\n  group "g" {\n    gpus = 2\n  }\n}\n')
    error = refused.value
    assert (error.source_line, error.source_column) == (3, 5)
    assert error.line().startswith("input.hcl:3,5-9: Unsupported argument")
    assert error.exit_code == 4


def test_columns_count_what_a_person_sees() -> None:
    with pytest.raises(HclError, match=r"input\.hcl:2,18-19"):
        parse_hcl('job "x" {\n  type = "e\u0301te\u0301 学" )\n}\n')


def test_variables_from_outside() -> None:
    text = (
        'variable "n" {\n  type = number\n}\nvariable "l" {\n  type = list(string)\n  default = []\n}\n'
        'job "x" {\n  priority = var.n\n  datacenters = var.l\n}\n'
    )
    job = parse_hcl(text, variables={"n": "7", "l": '["a", "b"]'})
    assert (job["Priority"], job["Datacenters"]) == (7, ["a", "b"])
    with pytest.raises(HclError, match='Unset variable "n"'):
        parse_hcl(text)
    with pytest.raises(HclError, match="does not declare it"):
        parse_hcl(text, variables={"n": "7", "other": "1"})


def test_json_syntax_is_refused_in_words() -> None:
    with pytest.raises(HclError, match="JSON syntax"):
        parse_hcl('{"job": {}}')
