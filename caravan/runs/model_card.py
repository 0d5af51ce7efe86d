"""The model card of an export: README.md with the head that hubs read. Pure.

The job's own card is kept where there is one; what only the registry knows follows it. What a job said is data: it is
escaped in tables and quoted in the head.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from caravan.runs.loading_code import ADAPTER_CONFIG, CONFIG, Loading, format_of, loading
from caravan.values.base import Json
from caravan.values.evaluation import GateReport
from caravan.values.model_metrics import figures, shown
from caravan.values.registry import ModelVersion

CARD: Final = "README.md"
FACTS: Final = "caravan-model.json"
SUMS: Final = "SHA256SUMS"
OURS: Final = (CARD, FACTS, SUMS)
"""What an export adds to a model's own files."""
LIBRARIES: Final = {"adapter": "peft", "model": "transformers", "sentences": "sentence-transformers"}
_HUB_ID: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"


def card(
    model: ModelVersion, own: str | None, *, configs: Mapping[str, Mapping[str, Json]], trained: str | None = None
) -> str:
    """README.md. `own` is the job's own card, `configs` are the model's small configs by the names of their files."""
    names = [file.path for file in model.files.files] or list(configs)
    folder = format_of(names, model.kind).folder
    how = loading(
        model,
        ".",
        config=configs.get(f"{folder}{CONFIG}"),
        adapter=configs.get(f"{folder}{ADAPTER_CONFIG}"),
        trained=trained,
    )
    body = [
        *_evaluation(model),
        *_origin(model),
        *_use(how),
        *_files(model),
    ]
    if own is not None:
        head, text = _split(own)
        open_code = sum(line.startswith("```") for line in text.split("\n")) % 2
        closed = [text.strip("\n"), *(["```"] if open_code else []), ""]
        return "\n".join([*_head(model, names, head), *closed, *body])
    title = [f"# {model.name}, version {model.version}", "", _about(model), ""]
    return "\n".join([*_head(model, names, ""), *title, *body])


def facts_json(model: ModelVersion) -> bytes:
    """caravan-model.json: all that the registry has of the model."""
    document = {"ref": model.ref, **model.model_dump(mode="json")}
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def sums(files: Mapping[str, str]) -> bytes:
    """SHA256SUMS for paths and their SHA-256, as `sha256sum -c` reads it: a name with a backslash is escaped."""
    lines = []
    for name in sorted(files):
        escaped = name.replace("\\", "\\\\")
        mark = "\\" if escaped != name else ""
        lines.append(f"{mark}{files[name]}  {escaped}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def _split(own: str) -> tuple[str, str]:
    """The head of a card without its marks, and the rest."""
    found = re.match(r"---\r?\n(.*?\n)---[ \t]*(?:\r?\n|$)", own, re.DOTALL)
    return (found[1], own[found.end() :]) if found else ("", own)


def _head(model: ModelVersion, names: list[str], own: str) -> list[str]:
    """The head: the job's own fields, and those that it lacks."""
    said = set(re.findall(r"^([A-Za-z_]+):", own, re.MULTILINE))
    library = LIBRARIES.get(format_of(names, model.kind).kind)
    hub = model.base_model if re.fullmatch(_HUB_ID, model.base_model or "") else None
    fields = {
        "license": "unknown",
        "base_model": json.dumps(hub) if hub else None,
        "library_name": library,
        "tags": "\n- caravan",
    }
    added = [f"{k}: {v}" for k, v in fields.items() if v and k not in said]
    return ["---", *own.rstrip("\n").splitlines(), *(line.replace(": \n", ":\n") for line in added), "---", ""]


def _about(model: ModelVersion) -> str:
    base = f"Trained from {_code(model.base_model)}" if model.base_model else "Trained"
    method = f" by {_code(model.method)}" if model.method else ""
    kind = " It is an adapter: it needs its base model." if model.kind == "adapter" else ""
    return f"{base}{method}.{kind}"


def _evaluation(model: ModelVersion) -> list[str]:
    rows = figures(model)
    lines = ["## Evaluation", ""]
    if not rows:
        return [*lines, "Nothing was measured.", ""]
    lines += [
        "| metric | this model | its base | better is | what it is |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        values = f"{shown(row.value, row.spec)} | {shown(row.base, row.spec)}"
        lines.append(f"| {_cell(row.name)} | {values} | {row.way} | {_cell(row.spec.title)} |")
    return [*lines, "", *_gate(model.gate)]


def _gate(gate: GateReport | None) -> list[str]:
    if gate is None:
        return ["It was not checked by a gate.", ""]
    by = {"evaluation": "its evaluation", "log": "the metrics of its log alone", "nothing": "nothing"}[gate.judged_by]
    lines = [f"Its gate, by {by}: **{gate.verdict.value}**.", ""]
    lines += [f"- {check.kind.value}: {check.verdict.value}: {_line(check.text)}" for check in gate.checks]
    if gate.recorded:
        lines += ["", "With what the figures come again:", "", "```json", *_recorded(gate.recorded), "```"]
    return [*lines, ""]


def _recorded(recorded: Mapping[str, Json]) -> list[str]:
    return json.dumps(recorded, indent=2, sort_keys=True).replace("`", "\\u0060").splitlines()


def _origin(model: ModelVersion) -> list[str]:
    code, data = model.code, model.data
    changed = f", with {len(code.uncommitted)} files not as committed" if code.uncommitted else ""
    rows = {
        "registered as": f"{model.ref}, {model.created_at:%Y-%m-%d}",
        "run": model.run_id,
        "trained from": model.parent or model.base_model or "not known",
        "base model": model.base_model or "not known",
        "method": model.method or "not known",
        "code": f"{code.source} {code.commit or ''}{changed}".strip() or "not known",
        "SHA-256 of the code": code.sha256 or "not known",
        "data": data.path or "not known",
        "rows of data": str(data.rows) if data.rows is not None else "not known",
        "SHA-256 of the data": data.sha256 or "not known: it was not seen from where the run was started",
        "SHA-256 of the plan": model.plan_sha256,
        "license": "unknown: that of the base model and of the data holds, and nobody has said which",
    }
    if model.why:
        rows["registered because"] = model.why
    lines = ["## Where it comes from", "", "| | |", "|---|---|"]
    return [*lines, *(f"| {name} | {_cell(value)} |" for name, value in rows.items()), ""]


def _use(how: Loading) -> list[str]:
    lines = ["## How to load it", "", "In this folder:", "", "```python", *how.lines, "```", ""]
    if how.merge:
        lines += ["To merge the adapter into its base, as a model of its own, go on with:", ""]
        lines += ["```python", *how.merge, "```", ""]
    if how.packages:
        lines += [f"It needs {', '.join(f'`{name}`' for name in how.packages)}.", ""]
    return lines


def _files(model: ModelVersion) -> list[str]:
    known = "" if model.files.files else " They were listed at the export: none were known when it was registered."
    return [
        "## Files",
        "",
        f"`sha256sum -c {SUMS}` compares them; `{FACTS}` is all that the registry has of the model.{known}",
        "",
    ]


def _line(text: str) -> str:
    """A text of a job on one line, with no marks of HTML."""
    return " ".join(text.split()).replace("<", "&lt;")[:400]


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{_line(text).replace('`', chr(39))}`"
