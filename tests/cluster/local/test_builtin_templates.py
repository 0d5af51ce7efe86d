"""What is wrong with a template, in the words of Go's template language and Nomad's client."""

import pytest

from caravan.cluster.local.envfiles import BadEnv, parse_env
from caravan.cluster.local.templates import TemplateRefused, TemplateWaits, render

ITEMS = {"a": "secret-1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ .missing }}", ':1:3: executing "" at <.missing>: nil data; no entry for key "missing"'),
        ('x\n  {{ mustEnv "X" }}',
         ':2:5: executing "" at <mustEnv "X">: error calling mustEnv: required environment variable X is empty'),
        ('{{ with nomadVar "p" }}{{ .a }}{{ .b }}{{ end }}',
         ':1:34: executing "" at <.b>: map has no entry for key "b"'),
        ('{{ (nomadVar "p").b }}', ':1:13: executing "" at <"p">: map has no entry for key "b"'),
        ('{{ with $v := nomadVar "p" }}\n{{ $v.b }}{{ end }}',
         ':2:5: executing "" at <$v.b>: map has no entry for key "b"'),
        ("{{ env }}", ':1:3: executing "" at <env>: wrong number of args for env: want 1 got 0'),
        ('{{ env "a" "b" }}', ':1:3: executing "" at <env>: wrong number of args for env: want 1 got 2'),
        ('{{ if true }}{{ mustEnv   "X" | env }}{{ end }}',
         ':1:16: executing "" at <mustEnv "X">: error calling mustEnv: required environment variable X is empty'),
        ('{{ "a" 1 }}', ":1:3: executing \"\" at <\"a\">: can't give argument to non-function \"a\""),
        ("é{{ .b }}", ':1:5: executing "" at <.b>: nil data; no entry for key "b"'),
        ('{{ range "abc" }}{{.}}{{end}}', ":1:9: executing \"\" at <\"abc\">: range can't iterate over abc"),
        ('{{ with nomadVar "p" }}{{ .a.b }}{{ end }}',
         ":1:28: executing \"\" at <.a.b>: can't evaluate field b in type string"),
        ('{{/* c */}}{{- mustEnv (env "A") -}}',
         ':1:15: executing "" at <mustEnv (env "A")>: error calling mustEnv: required environment variable  is empty'),
    ],
)  # fmt: skip
def test_an_error_while_rendering_names_its_place(text: str, said: str) -> None:
    with pytest.raises(TemplateRefused) as refused:
        render(text, {}, items_of=lambda _: ITEMS, strict=True)
    assert str(refused.value) == f"Template failed: (dynamic): execute: template: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{{ nope "x" }}', 'function "nope" not defined'),
        ("{{ if }}", "missing value for if"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ if true }}", "unexpected EOF"),
        ("{{ .x", "unclosed action"),
        ("{{ $x }}", 'undefined variable "$x"'),
    ],
)
def test_what_is_no_template(text: str, said: str) -> None:
    with pytest.raises(TemplateRefused) as refused:
        render(text, {}, source="/task/local/x.tpl")
    assert str(refused.value) == f"Template failed: (/task/local/x.tpl): parse: template: :1: {said}"


def test_a_variables_value_is_in_no_error() -> None:
    text = '{{ with nomadVar "p" }}{{ parseInt .a }}{{ end }}'
    with pytest.raises(TemplateRefused) as refused:
        render(text, {}, items_of=lambda _: ITEMS)
    assert "secret" not in str(refused.value)
    assert "[redacted]" in str(refused.value)


def test_all_missing_variables_are_waited_for() -> None:
    text = '{{ with nomadVar "one" }}x{{ end }}{{ with nomadVar "two" }}y{{ end }}{{ nomadVarExists "three" }}'
    with pytest.raises(TemplateWaits) as waits:
        render(text, {}, strict=True)
    assert waits.value.paths == {"one", "two"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\nB", "error on line 2: missing ="),
        ("=1", "error on line 1: empty key"),
        ("1A=1", "error on line 1: key must start with [A-Za-z_] but found '1'"),
        ("A-B=1", "error on line 1: key characters must be [A-Za-z0-9/_.] but found '-'"),
        ('A="x', 'error on line 1: unmatched "'),
        ("A='x", "error on line 1: unmatched '"),
        ('A="\\', "error on line 1: incomplete escape sequence"),
        ('A="\\q"', 'error on line 1: invalid escape sequence: "q"'),
        ('A="\\u12"', "error on line 1: incomplete hex sequence"),
        ('A="\\ud83d"', "error on line 1: incomplete Unicode surrogate pair"),
    ],
)
def test_what_is_no_environment(text: str, said: str) -> None:
    with pytest.raises(BadEnv) as wrong:
        parse_env(text)
    assert str(wrong.value) == said


def test_escapes_of_an_environment() -> None:
    assert parse_env('A="\\u00e9\\ud83d\\ude00\\/\\b"\n export B=x y # c\nC="#"') == {
        "A": "é😀/\b",
        "B": "x y",
        "C": "#",
    }
