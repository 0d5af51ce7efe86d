"""The report in a real browser, from the disk: it is painted, it fits, it says nothing and asks for nothing."""

from pathlib import Path

import pytest

from tests import needs
from tests.runs.browser import Browser
from tests.runs.test_report_page import HOSTILE, page

_BOXES = """
Array.from(document.querySelectorAll('svg[role="img"]')).map(drawn => {
    const box = drawn.getBoundingClientRect();
    return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height};
})
"""
_CURVES = "document.querySelectorAll('svg[role=\"img\"] :is(path, polyline, circle)')"
_WIDER = """
Array.from(document.body.querySelectorAll('*')).filter(shown => {
    for (let held = shown.parentElement; held; held = held.parentElement)
        if (getComputedStyle(held).overflowX !== 'visible') return false;
    return shown.getBoundingClientRect().right > innerWidth + 1;
}).map(shown => shown.outerHTML.slice(0, 200))
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("text", ["some text", HOSTILE[0], HOSTILE[2], "w" * 300])
def test_the_browser_paints_it_whole(tmp_path: Path, text: str, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(text), encoding="utf-8")
    with Browser(needs.chromium(), tmp_path / "profile") as browser:
        for width in (1280, 400):
            browser.view(width, 900, scheme=scheme)
            browser.open(path.as_uri())
            (tmp_path / f"report-{width}-{scheme}.png").write_bytes(browser.picture())
            assert browser.value("document.documentElement.scrollHeight") > 900  # longer than the window
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value(_WIDER) == []
            assert "How to go on" in browser.value("document.body.innerText")
            boxes = browser.value(_BOXES)
            assert len(boxes) == 2
            drawn = [browser.picture(box) for box in boxes]
            browser.value(f"{_CURVES}.forEach(curve => {{ curve.style.visibility = 'hidden' }})")
            without = [browser.picture(box) for box in boxes]
            browser.value("document.querySelectorAll('svg').forEach(drawn => { drawn.style.visibility = 'hidden' })")
            empty = [browser.picture(box) for box in boxes]
            for with_curves, frame, nothing in zip(drawn, without, empty, strict=True):
                assert with_curves != frame  # the curves have pixels, and so have axes and words
                assert frame != nothing
    assert browser.complaints == []  # a refused style or script, an error of any kind
    assert browser.sent == []
    assert browser.requests  # they are seen: the page itself is one


def test_what_is_asked_of_a_network_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text('<img src="http://127.0.0.1:9/x.png"><p style="width: 2000px">wide</p>', encoding="utf-8")
    with Browser(needs.chromium(), tmp_path / "profile") as browser:
        browser.view(400, 900)
        browser.open(path.as_uri())
        assert browser.sent == ["http://127.0.0.1:9/x.png"]
        assert browser.complaints
        assert len(browser.value(_WIDER)) == 1
