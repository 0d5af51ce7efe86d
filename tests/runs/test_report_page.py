"""The report as HTML: what others wrote stays text, nothing is loaded, and the charts show what was measured."""

import base64
import hashlib
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.runs.report.charts import Chart, ChartLine
from caravan.runs.report.content import content
from caravan.runs.report.drawing import HEIGHT, WIDTH, draw, tick_text
from caravan.runs.report.material import Material
from caravan.runs.report.page import as_page
from caravan.runs.report.words import text_of
from caravan.values.curves import AttemptCurves, Curve
from caravan.values.delivery import holds_credentials
from caravan.values.evaluation import CheckKind, GateCheck, GateReport, GateVerdict, Generation
from caravan.values.run import RunStatus
from caravan.values.training import MetricSpec
from tests.runs.test_report import SECRET, record, whole

HOSTILE = (
    "<script>alert(1)</script>",
    "javascript:alert(1)",
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    "]]>-->",
    "{{ 7*7 }}",
)


def material(text: str = "some text", **also: object) -> Material:
    """All parts of a run, with `text` wherever others could have written something."""
    parts = whole(text)
    curve = Curve(name=text[:60], group=text[:60], over="step", x=(1, 2, 3), y=(3.0, math.nan, 1.0), seen=3)
    memory = Curve(name=text[:60], group="host memory", over="minutes", x=(0, 9), y=(1, 2), unit="GiB", limit=3.0)
    curves = (AttemptCurves(attempt=1, metrics=(curve,), resources=(memory,), training_since=0.1, notes=(text,)),)
    gate = GateReport(
        verdict=GateVerdict.LOOK,
        checks=(
            GateCheck(kind=CheckKind.BASE, verdict=GateVerdict.LOOK, text=text, metric=text, value=1.0, limit=2.0),
        ),
        metrics={text: 1.5},
        base={text: 2.5},
        definitions=(MetricSpec(name=text, title=text, unit=text),),
        judged_by="evaluation",
        recorded={"versions": {"torch": text}},
        generations=(Generation(prompt=text, text=text, base=text),),
    )
    kept = {"curves": curves, "gate": gate, "trace": text, "summary": text, "summary_by": text, "place": text}
    return Material(record=record(RunStatus.FAILED, prompt=text, source=text), **{**parts, **kept, **also})  # type: ignore[arg-type]


def page(text: str = "some text", **also: object) -> str:
    return as_page(content(material(text, **also)), TEMPLATES)


class Seen(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)

    def skeleton(self) -> list[str]:
        return [tag for tag, _ in self.elements]


def test_a_place_in_a_file_is_not_broken_across_lines() -> None:
    codes = [attributes.get("class") for tag, attributes in Seen(page("train.py:67")).elements if tag == "code"]
    assert "short" in codes
    long = "src/training/finetune/with_lora.py:1067"
    said = page(long)
    assert f"<code>{long}</code>" in said
    assert f'<code class="short">{long}' not in said


@pytest.mark.parametrize(
    ("value", "said"), [(60.0, "60"), (0.5, "0.5"), (True, "true"), (1e300, "1e+300"), (-0.0, "0")]
)
def test_a_whole_number_is_told_without_a_fraction(value: float, said: str) -> None:
    assert text_of(value) == said


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_stays_text(text: str) -> None:
    seen = Seen(page(text))
    assert seen.skeleton() == Seen(page("some text")).skeleton()
    assert "script" not in seen.skeleton()
    assert any(text in said for said in seen.texts)
    for tag, attributes in seen.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src", "action", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "https://", "http://")), (tag, name)  # type: ignore[union-attr]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(min_size=1, max_size=40))
def test_any_text_stays_text(text: str) -> None:
    assume(not holds_credentials(text))
    allowed = {*Seen(page("some text")).skeleton()}
    assert set(Seen(page(text)).skeleton()) <= allowed
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page(text))


def test_nothing_is_loaded_and_the_style_alone_is_allowed() -> None:
    html = page()
    seen = Seen(html)
    (policy,) = [a["content"] for t, a in seen.elements if t == "meta" and a.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(seen.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(seen.skeleton())
    assert not [a for _, a in seen.elements if "style" in a or "src" in a]
    assert "@import" not in seen.style
    assert "url(" not in seen.style


def test_a_trace_on_the_web_is_a_link_and_a_file_is_not() -> None:
    links = [a["href"] for t, a in Seen(page(trace="https://traces.example/r-1")).elements if t == "a"]
    assert "https://traces.example/r-1" in links
    assert not [a for t, a in Seen(page(trace="file:///etc/passwd")).elements if (a.get("href") or "#")[0] != "#"]


def test_the_same_run_gives_the_same_bytes() -> None:
    assert page() == page()


def test_no_secret_is_told() -> None:
    assert SECRET not in page(f"text {SECRET}", secrets=(SECRET,))


def test_each_chart_says_in_words_what_it_shows() -> None:
    seen = Seen(page("accuracy"))
    svgs = [a for t, a in seen.elements if t == "svg" and a.get("role") == "img"]
    ids = {a["id"] for t, a in seen.elements if "id" in a}
    assert len(svgs) == 2
    assert all(name in ids for a in svgs for name in str(a["aria-labelledby"]).split())
    said = " ".join(seen.texts)
    assert "accuracy: from 3 at step 1 to 1 at 3, lowest 1 at 3, highest 3 at 1; 1 values are no number." in said


def test_the_evaluation_is_told_with_base_and_meaning() -> None:
    said = " ".join(Seen(page("eval_loss")).texts)
    for told in ("needs a look", "Tuned", "Base", "Better is", "lower", "1.5", "2.5", "Judged by an evaluation"):
        assert told in said


def chart(*points: tuple[float, float], log: bool = False) -> Chart:
    return Chart("c", "c", "step", "loss", (ChartLine("loss", points),), log=log)


def places(path: str) -> Iterator[tuple[float, float]]:
    for part in re.findall(r"[ML]([^ML]+)", path):
        x, y = part.split()
        yield float(x), float(y)


numbers = st.floats(allow_nan=True, allow_infinity=True)


@example([(0.0, 0.0), (0.0, -1.5000000005000003e308)], False)
@example([(0.0, 1.634266486238469e308)], True)
@given(st.lists(st.tuples(st.floats(-1e9, 1e9), numbers), max_size=60), st.booleans())
def test_whatever_was_logged_lies_within_the_chart(points: list[tuple[float, float]], log: bool) -> None:
    drawing = draw(chart(*points, log=log))
    for stroke in drawing.strokes:
        for x, y in (*places(stroke.path), *stroke.dots):
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    assert len({tick.text for tick in drawing.y_ticks}) == len(drawing.y_ticks)


def test_thousands_of_points_are_thinned_and_no_extreme_is_lost() -> None:
    points = [(float(n), 1.0) for n in range(50_000)]
    points[31_234] = (31_234.0, 9.0)
    points[7_001] = (7_001.0, -9.0)
    (stroke,) = draw(chart(*points)).strokes
    drawn = list(places(stroke.path))
    assert len(drawn) <= 4 * WIDTH
    heights = [y for _, y in drawn]
    assert max(heights) > heights[0] > min(heights)
    assert len(stroke.path) < 25_000


def test_a_value_that_is_no_number_is_a_gap_with_a_mark() -> None:
    (stroke,) = draw(chart((1, 1.0), (2, 2.0), (3, math.nan), (4, 3.0), (5, 1.0))).strokes
    assert stroke.path.count("M") == 2
    assert len(stroke.lost) == 1


def test_a_step_that_begins_anew_is_no_line_backwards() -> None:
    (stroke,) = draw(chart((1, 1.0), (2, 2.0), (1, 3.0), (2, 4.0))).strokes
    assert stroke.path.count("M") == 2


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.5, "0.5"), (12000, "12k"), (2e-5, "2e-5"), (3e6, "3M"), (1500, "1500")]
)
def test_ticks_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text


def test_on_a_logarithmic_scale_equal_ratios_are_equally_far() -> None:
    (stroke,) = draw(chart((1, 1.0), (2, 10.0), (3, 100.0), log=True)).strokes
    (_, a), (_, b), (_, c) = places(stroke.path)
    assert a - b == pytest.approx(b - c, abs=0.2)
