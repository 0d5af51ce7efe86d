"""Job files that are broken, by what is said of them, and that none breaks the reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.hcl import HclError, parse_hcl

JOB = """variable "n" {
  type    = number
  default = 3
  validation {
    condition     = var.n < 5
    error_message = "too many."
  }
}

job "x" {
  type = "batch"
  meta {
    text = "a ${var.n} b"
  }
  group "g" {
    task "t" {
      driver = "raw_exec"
      template {
        data = <<EOF
{{ env "A" }} ${NOMAD_TASK_DIR}
EOF
      }
    }
  }
}
"""
MULTI_LINE = (
    "Invalid multi-line string; Quoted strings may not be split over multiple lines. To produce a multi-line string, "
    'either use the \\n escape to represent a newline character or use the "heredoc" multi-line template syntax.'
)


def said(text: str) -> str:
    """The job's id, quoted, or the refusal."""
    try:
        return repr(parse_hcl(text)["ID"])
    except HclError as refused:
        return str(refused)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('job "x {\n}\n', f"input.hcl:1,9-2,1: {MULTI_LINE}, and 2 other diagnostic(s)"),
        (
            'job "x',
            "input.hcl:1,7-7: Unterminated string literal; Unable to find the closing quote mark before the end of the "
            "file., and 1 other diagnostic(s)",
        ),
        (
            'job "x${a}" {\n}\n',
            "input.hcl:1,7-9: Invalid string literal; Template sequences are not allowed in this string. To include a "
            'literal "$", double it (as "$$") to escape it.',
        ),
        (
            JOB.replace("default = 3", "default = 7"),
            "input.hcl:3,13-14: Invalid value for default variable; too many.\n\nThis was checked by the validation "
            "rule at input.hcl:4,3-13.",
        ),
    ],
)
def test_what_is_said(text: str, wanted: str) -> None:
    assert said(text) == wanted


@given(st.integers(0, len(JOB)), st.integers(0, 12), st.text('{}"=[]\n,$%<EOF# a1', max_size=4))
def test_none_breaks_the_reader(at: int, cut: int, put: str) -> None:
    """Whatever is cut out and put in: a job or one refusal that says where."""
    assert said(JOB[:at] + put + JOB[at + cut :])


@given(st.text(max_size=40))
def test_any_text_is_a_job_or_refused(text: str) -> None:
    assert said(text)


def test_locals_that_take_too_many_rounds_are_an_error_and_not_left_out() -> None:
    chain = "\n".join(f"  n{i} = local.n{i + 1}" for i in range(150))  # each needs the one after it
    text = f'locals {{\n{chain}\n  n150 = "end"\n}}\n\njob "x" {{\n  meta {{\n    a = local.n150\n  }}\n}}\n'
    with pytest.raises(HclError, match="at most 100 rounds"):
        parse_hcl(text)
