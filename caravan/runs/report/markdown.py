"""The report as Markdown (GitHub's dialect). No text of others is Markdown or HTML there, nor breaks a table. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.runs.report import blocks as b

_SPECIAL: Final = re.compile(r"([\\`*_\[\]|~])")
_BEGINS: Final = re.compile(r"^([-+#>]|\d+(?=[.)]))")  # what would make a line something else


def as_markdown(document: b.Document, *, page: str = "") -> str:
    """The document; `page` names the HTML file that lies beside."""
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(_parts(document, page)) + "\n")


def _parts(document: b.Document, page: str) -> Iterator[str]:
    yield f"# {_md(document.title)}: {_md(document.badge.text)}"
    if document.detail:
        yield _begun(_md(document.detail))
    yield _md(document.dates)
    if document.facts:
        yield "\n".join(f"- {_md(name)}: {_line(line)}" for name, line in document.facts)
    if page:
        yield f"With curves and on one page: [{_md(page)}]({page})"
    if document.summary:
        yield "## Summary"
        yield _begun(_md(document.summary))
        yield f"(In the words of {_md(document.summary_by)}; the rest of the report is not.)"
    for section in document.sections:
        yield f"## {_md(section.title)}"
        yield from _blocks(section.blocks)


def _blocks(blocks: Iterable[b.Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, b.Paragraph):
            yield _begun(_line(block.line))
        elif isinstance(block, b.Heading):
            yield f"### {_md(block.text)}"
        elif isinstance(block, b.Bullets):
            yield "\n".join(f"- {_begun(_line(item))}" for item in block.items)
        elif isinstance(block, b.Table):
            yield _table(block)
        elif isinstance(block, b.Listing):
            yield _listing(block)
        elif isinstance(block, b.Figure):
            yield _table(block.table)
        else:
            yield f"**{_md(block.title)}**"
            yield from _blocks(block.blocks)


def _table(table: b.Table) -> str:
    rule = "|".join("--:" if n in table.numbers else "---" for n in range(len(table.head)))
    rows = ["| " + " | ".join(_line(cell, in_table=True) for cell in row) + " |" for row in table.rows]
    return "\n".join(["| " + " | ".join(map(_md, table.head)) + " |", f"|{rule}|", *rows])


def _line(line: b.Line, *, in_table: bool = False) -> str:
    return "".join(_inline(part, in_table=in_table) for part in line)


def _inline(part: b.Inline, *, in_table: bool) -> str:
    if isinstance(part, str):
        return _md(part)
    if isinstance(part, b.Strong):
        return f"**{_md(part.text.strip())}** " if part.text.endswith(" ") else f"**{_md(part.text)}**"
    if isinstance(part, b.Badge):
        return _md(part.text) if in_table else f"**{_md(part.text)}**"
    text = part.href if isinstance(part, b.Link) else part.text
    # A bar ends a cell even in code; elsewhere code keeps a text as it is.
    return _md(text) if in_table and "|" in text else _code(text)


def _md(text: str) -> str:
    """A text in which nothing is Markdown or HTML."""
    escaped = _SPECIAL.sub(r"\\\1", text.replace("&", "&amp;"))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def _begun(text: str) -> str:
    """A line that is no heading, list or quotation, however it begins."""
    return _BEGINS.sub(lambda m: m[1] + "\\" if m[1].isdigit() else f"\\{m[1]}", text)


def _code(text: str) -> str:
    if not text:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _listing(listing: b.Listing) -> str:
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", listing.text)), default=0) + 1)
    return f"{fence}{listing.language}\n{listing.text}\n{fence}"
