"""The report as one HTML file that needs nothing else: no script, no font, no picture, no address is loaded.

The template escapes every text (jinja2's autoescape); a policy in the file forbids the browser whatever is not the
file's own style, which it knows by its digest. Pure but for the templates that it reads.
"""

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from caravan.runs.report import blocks as b
from caravan.runs.report.charts import Chart
from caravan.runs.report.drawing import HEIGHT, WIDTH, Drawing, draw

_WEB: Final = re.compile(r"https?://[^\s\"'<>\\]+\Z")
TONES: Final = 8
"""Colours that the style has for lines; more lines begin anew with another pattern."""


def as_page(document: b.Document, templates: Path) -> str:
    """The document as HTML, from `report.html.j2` and `report.css` in `templates`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["web"] = lambda text: bool(_WEB.match(text))
    environment.globals.update(draw=draw, kind=_kind, diff=_diff, tone=_tone, dash=_dash, width=WIDTH, height=HEIGHT)
    style = (templates / "report.css").read_text("utf-8").strip() + "\n"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(doc=document, style=style, digest=digest)


def _kind(part: object) -> str:
    """What a part of a document is, as the template asks for it."""
    return "text" if isinstance(part, str) else type(part).__name__.lower()


def _diff(text: str) -> list[tuple[str, str]]:
    """Lines of a diff with what each is: add, del, or nothing."""
    signs = {"+": "add", "-": "del", "@": "at"}
    return [(signs.get(line[:1], ""), line) for line in text.split("\n")]


def _tone(number: int) -> int:
    return number % TONES


def _dash(line: object, number: int) -> int:
    """The pattern of a line: of lines with one colour, each has its own."""
    return min(3, number + getattr(line, "tone", 0) // TONES)


__all__ = ["Chart", "Drawing", "as_page"]
