"""What is wrong with a template, in the words of Go's template language and Nomad's client."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (
            '{{ parseFloat "inf" }} {{ parseFloat "1000000" }} {{ parseFloat "0.00001" }} {{ parseFloat "2.50" }}',
            "+Inf 1e+06 1e-05 2.5",
        ),
        (
            '{{ with parseJSON "{\\"n\\":12,\\"m\\":1000000}" }}{{ .n }} {{ .m }} {{ toJSON . }}{{ end }}',
            '12 1e+06 {"m":1000000,"n":12}',
        ),
        ('{{ parseJSON "{\\"b\\":[1,\\"<\\"]}" | toJSONPretty }}', '{\n  "b": [\n    1,\n    "\\u003c"\n  ]\n}'),
        ('{{ print "a" "b" }} {{ print 1 2 "a" 3 }} {{ println "a" 1 }}', "ab 1 2a3 a 1\n"),
        ('{{ printf "%x %t %q %c %T %d%%" "hi" true "ü" 65 5 7 }}', '6869 true "ü" A int 7%'),
        (
            '{{ printf "%d|%s|%z" "x" 5 1 }} {{ printf "%s" "a" "b" }} {{ printf "%s %s" "a" }}',
            "%!d(string=x)|%!s(int=5)|%!z(int=1) a%!(EXTRA string=b) a %!s(MISSING)",
        ),
        (
            '{{ printf "%05d|%-4s|%4s|%.2f|%+d|%q" 5 "a" "b" 1.5 5 (split "," "a,b") }}',
            '00005|a   |   b|1.50|+5|["a" "b"]',
        ),
        ('{{ len "äb" }} {{ split "" "abc" }} {{ split "," "" | len }}', "3 [a b c] 0"),
        ("{{ divide -2 7 }} {{ divide 2 -7 }} {{ modulo 3 -7 }}", "-3 -3 -1"),
        ("{{ \"it's o'neill HERE a-b 2z\" | toTitle }}", "It's O'neill HERE A-B 2Z"),
        (
            '{{ "foobar" | regexReplaceAll "(o)(b)" "$2-${1}$9$$" }} {{ "foo" | regexReplaceAll "o" "\\\\1" }}',
            "fob-o$ar f\\1\\1",
        ),
        ('{{ "foobar" | regexReplaceAll "(o)" "$1x" }}', "fbar"),
        ("{{ \"tab\\t\\x41\\u00e4\\101\" }} {{ '\"' }} {{ 'a' }}", "tab\tAäA 34 97"),
        ("{{ 0x1F }} {{ 1e3 }} {{ 1_000 }} {{ 0b11 }} {{ .5 }} {{ 010 }}", "31 1000 1000 3 0.5 8"),
        ("{{ range loop 5 }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}", "012"),
    ],
)
def test_values_are_printed_as_go_prints_them(text: str, made: str) -> None:
    """What consul-template 0.41.0 made of the same texts with Go 1.26."""
    assert render(text, {}) == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{{ "a" | regexReplaceAll "(" "x" }}', "error parsing regexp: missing "),
        ('{{ eq 1 "1" }}', "incompatible types for comparison: int and string"),
        ("{{ eq 1 1.0 }}", "incompatible types for comparison: int and float64"),
        ('{{ parseUint "-4" }}', 'strconv.ParseUint: parsing "-4": invalid syntax'),
        ('{{ parseInt "99999999999999999999" }}', "value out of range"),
        ('{{ index (split "," "a,b") -1 }}', "index out of range: -1"),
        ("{{ break }}", "{{break}} outside {{range}}"),
        ("{{ range loop 1 }}{{ else }}{{ continue }}{{ end }}", "{{continue}} outside {{range}}"),
        ("{{ }}", "missing value for command"),
        ("{{ nil }}", "nil is not a command"),
    ],
)
def test_what_go_refuses_is_refused(text: str, said: str) -> None:
    with pytest.raises(TemplateRefused) as refused:
        render(text, {})
    assert said in str(refused.value)


PARTS = [
    *(
        '"a"',
        "1",
        "-2.5",
        "true",
        "nil",
        ".",
        ".a",
        "$",
        "$x",
        "(",
        ")",
        "|",
        ",",
        ":=",
        "=",
        "'c'",
        "`r`",
        "'",
        '"',
        "/*",
    ),
    *("if", "with", "range", "else", "end", "break", "print", "printf", "index", "len", "eq", "lt", "divide", "loop"),
    *("parseJSON", "parseFloat", "parseInt", "regexReplaceAll", "split", "join", "toJSON", "toTitle", "indent", "env"),
    *('"{"', '"("', '"inf"', '"%d%z%"', '"[1,{}]"', '"$9"', "{{", "}}", "{{-", "-}}", "text"),
]


@given(words=st.lists(st.sampled_from(PARTS), max_size=12))
def test_any_template_is_rendered_or_refused(words: list[str]) -> None:
    with contextlib.suppress(TemplateRefused, TemplateWaits):
        render("{{ " + " ".join(words) + " }}", {"A": "b"}, items_of=lambda _: ITEMS)
