"""JobSpec → HCL, by the template `job.nomad.hcl.j2`. The same spec always gives the same text.

The template says what a job file looks like; every value in it goes through `escape`. Nothing is decided here.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caravan.hcl import escape
from caravan.hcl.errors import HclError
from caravan.values.base import Json
from caravan.values.job import META_ATTEMPT, META_RUN, JobSpec

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = "job.nomad.hcl.j2"


def render_hcl(spec: JobSpec, *, templates: Path, template: str = TEMPLATE) -> str:
    """The job file of a spec. `templates` is the folder of `job.nomad.hcl.j2`, `template` another one that extends it.

    Raises HclError for a spec that HCL can't say: an option of a driver or artifact whose name is no identifier.
    """
    made_for = {"run": spec.meta.get(META_RUN), "attempt": spec.meta.get(META_ATTEMPT)}
    return _environment(templates).get_template(template).render(job=spec, made_for=made_for)


@cache
def _environment(templates: Path) -> "Environment":
    """Made once for a folder: compiling the template costs more than rendering it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - this is no HTML; the filter below escapes for HCL
    )
    environment.filters["hcl"] = escape.value
    environment.filters["plain_keys"] = _as_block
    environment.globals["arguments"] = arguments
    environment.globals["options"] = options
    return environment


def _indented(lines: Sequence[str], depth: int) -> str:
    return "\n".join(f"{'  ' * depth}{line}" for line in lines)


def arguments(found: Mapping[str, Json] | Sequence[tuple[str, Json]], depth: int, *, runtime: bool = False) -> str:
    """Arguments one to a line, their equals signs aligned, at `depth` levels of indentation; null is left out."""
    items = [(k, v) for k, v in (found.items() if isinstance(found, Mapping) else found) if v is not None]
    width = max((len(_argument(name)) for name, _ in items), default=0)
    lines = [f"{name:<{width}} = {escape.value(v, runtime=runtime, heredoc=True)}" for name, v in items]
    return _indented(lines, depth)


def _argument(name: str) -> str:
    if not escape.is_name(name):
        raise HclError(f"The option {escape.quoted(name)} can't be written in HCL: it must be a plain name.")
    return name


def options(config: Mapping[str, Json], depth: int) -> str:
    """A driver's options: lists of objects become blocks, as Nomad reads those; an object goes in parentheses.

    Without the parentheses Nomad would read an object as a list of one.
    """
    plain: list[tuple[str, Any]] = []
    blocks: list[tuple[str, Any]] = []
    for name, found in config.items():
        _argument(name)
        nested = isinstance(found, list | tuple) and found and all(isinstance(v, dict) for v in found)
        (blocks if nested and all(_as_block(v) for v in found) else plain).append((name, found))
    width = max((len(name) for name, _ in plain), default=0)
    lines = []
    for name, found in plain:
        text = escape.value(found, runtime=True, heredoc=True)
        lines.append(f"{name:<{width}} = {f'({text})' if isinstance(found, dict) else text}")
    out = [_indented(lines, depth)] if lines else []
    pad = "  " * depth
    for name, found in blocks:
        out += [f"{pad}{name} {{\n{options(v, depth + 1)}\n{pad}}}" if v else f"{pad}{name} {{}}" for v in found]
    return "\n".join(out)


def _as_block(found: Mapping[str, Json]) -> bool:
    return all(escape.is_name(k) for k in found)
