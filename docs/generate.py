"""Writes the generated parts of the docs, or with `--check` says which are not up to date (exit code 1).

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->` in a page; everything else in the page
is written by hand. Parts: the graph, the settings, the plan's fields, the causes of failure, the
command line's help, the calls to Nomad with their rights, the questions, and others (PARTS).
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PART = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def graph() -> str:
    """The flow as a Mermaid diagram, drawn from the compiled graph."""
    from caravan.agent.graph import build_graph

    return f"```mermaid\n{build_graph().get_graph().draw_mermaid().strip()}\n```"


def rooms() -> str:
    """Who imports whom, as a Mermaid diagram of the imports of today."""
    from docs.room_picture import mermaid

    return mermaid()


def settings() -> str:
    """The settings with their names in a file, variables, defaults and meanings."""
    from config import Settings
    from settings_layers import file_name, variables

    rows = ["| setting | variable | default | meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable, said_as = variables(field)[0], file_name(field)
        said_as = f"`{said_as}`" if said_as != "config" else ""
        said = {"home": "the platform's state directory", "base_images": "see the table in jobs.md"}
        default = said.get(name, field.get_default())
        rows.append(f"| {said_as} | `{variable}` | {'' if default is None else default} | {field.description} |")
    return "\n".join(rows)


def model_sizes() -> str:
    """Which model is chosen for which GPUs, with what it needs."""
    from caravan.planning.serving_table import usual_sizes

    head = "| GPUs | memory | chosen | needed of vLLM's share, each | context | room in the cache |"
    rows = [head, "|---|---|---|---|---|---|"]
    for row in usual_sizes():
        if row.fit is None:
            rows.append(f"| {row.gpus} × {row.gpu} | {row.memory_gib:.1f} GiB | nothing | | | |")
            continue
        need = row.fit.memory
        cells = (
            f"{row.fit.seat.gpus} × {row.gpu}",
            f"{row.memory_gib:.1f} GiB",
            f"`{row.fit.model.repo}`",
            f"{need.needed:.1f} of {need.budget or 0:.1f} GiB",
            f"{row.context}",
            f"{need.kv_tokens or 0:,} tokens",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def model_fields() -> str:
    """What `serve-model --set` takes."""
    from caravan.values.serving import ServeOptions

    rows = ["| field | default | meaning |", "|---|---|---|"]
    for name, field in ServeOptions.model_fields.items():
        rows.append(f"| `{name}` | {_default(field.default)} | {field.description} |")
    return "\n".join(rows)


def base_images() -> str:
    """The images that jobs may start from, with what is counted on in them."""
    from caravan.values.base_images import BASE_IMAGES

    rows = ["| image | Python | torch | CUDA | compilers |", "|---|---|---|---|---|"]
    for image in BASE_IMAGES:
        tools = "C++, nvcc" if image.nvcc else "C++" if image.tools else ""
        cells = (f"`{image.image}`", image.python, image.torch, image.cuda, tools)
        rows.append(f"| {' | '.join(c or '' for c in cells)} |")
    return "\n".join(rows)


def cuda() -> str:
    """What torch's versions need, as plans are held against it."""
    from caravan.planning.cuda import TORCH, image_driver, oldest_driver

    rows = ["| torch | CUDA of its wheels | Python | oldest driver | driver of that CUDA |", "|---|---|---|---|---|"]
    for minor, (version, low, high) in TORCH.items():
        rows.append(f"| {minor} | {version} | {low} to {high} | {oldest_driver(version)} | {image_driver(version)} |")
    return "\n".join(rows)


def plan() -> str:
    """The plan's fields by their dotted paths: type, default, meaning, who drafts them, what they become in the job."""
    from caravan.values.plan import TrainingPlan

    rows = ["| field | takes | default | meaning | drafted by | becomes |", "|---|---|---|---|---|---|"]
    return "\n".join([*rows, *_fields(TrainingPlan, "")])


def _fields(model: Any, prefix: str) -> list[str]:
    from pydantic import BaseModel
    from pydantic_core import PydanticUndefined

    from caravan.values.plan_reference import ROWS

    rows = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if name == "provenance":
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel) and not field.is_required():
            rows += _fields(kind, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else _default(default)
        block, sign = _block(kind)
        row = ROWS[f"{prefix}{name}"]
        told = [_cell(text) for text in (row.meaning, row.by, row.becomes)]
        rows.append(f"| `{prefix}{name}` | {_takes(field)} | {shown} | {' | '.join(told)} |")
        if block:
            rows += _fields(block, f"{prefix}{name}{sign}.")
    return rows


def _default(value: Any) -> str:
    """A default as a plan file has it; nothing for one that says nothing."""
    if value in (None, "", (), {}):
        return ""
    text = value.value if hasattr(value, "value") else value
    return f"`{json.dumps(list(text) if isinstance(text, tuple) else text)}`"


def _takes(field: Any) -> str:
    """What a field takes, in words of one who writes a plan file: kinds, choices, bounds."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(field.annotation).json_schema()
    found = _in_words(schema, schema.get("$defs", {}))
    bounds = {k: v for m in field.metadata for k in ("ge", "gt", "le", "lt") if (v := getattr(m, k, None)) is not None}
    words = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return ", ".join([found, *(f"{words[k]} {v:g}" for k, v in bounds.items())])


def _in_words(schema: dict[str, Any], known: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _in_words(known[schema["$ref"].rpartition("/")[2]], known)
    options = [o for o in schema.get("anyOf", ()) if o.get("type") != "null"]
    if options:
        return " or ".join(_in_words(o, known) for o in options)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_in_words(schema.get('items', {}), known)}s"
    if schema.get("type") == "object":
        return "block" if "properties" in schema else "mapping"
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes or no"}
    return names.get(schema.get("type", ""), "anything")


def _block(kind: Any) -> tuple[Any, str]:
    """The block that a field holds, if any: one that may be unset, each of a list (`[]`), or each under a name."""
    from typing import get_args

    from pydantic import BaseModel

    for part in get_args(kind):
        if isinstance(part, type) and issubclass(part, BaseModel):
            sign = {"tuple": "[]", "dict": ".NAME"}.get(getattr(getattr(kind, "__origin__", None), "__name__", ""), "")
            return part, sign
    return None, ""


def causes() -> str:
    """The causes of failure: what each means, where rules look for it, what is tried, what a person can do."""
    from caravan.diagnosis.plainly import steps
    from caravan.diagnosis.taxonomy import TAXONOMY
    from caravan.values.failure import FailureClass

    said = {
        FailureClass.UNKNOWN: "What memory knows to have worked under the same fingerprint; else it is handed to you.",
        FailureClass.NO_FAILURE: "Nothing.",
    }
    rows = ["| cause | what it is | rules | what is tried | what you can do |", "|---|---|---|---|---|"]
    for failure, entry in TAXONOMY.items():
        tried = said.get(failure) or " ".join(steps(failure)) or "It is handed to you at once."
        cells = (entry.description, _rules(failure), tried, entry.advice)
        rows.append(f"| `{failure.value}` | {' | '.join(_cell(text) for text in cells)} |")
    return "\n".join(rows)


def _rules(failure: Any) -> str:
    """How many rules show a cause, by where they look."""
    from collections import Counter

    from caravan.diagnosis.signs import SIGNS

    places = Counter(origin.value for sign in SIGNS if sign.failure is failure for origin in sign.origins)
    return ", ".join(f"{place} {count}" for place, count in places.most_common())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def questions() -> str:
    """Every question: when it is asked, what it decides, what is taken without an answer, what it weighs."""
    from docs.question_scenes import asked

    rows = ["| id | asked when | the question | decides | default | a wrong guess |", "|---|---|---|---|---|---|"]
    for when, question in asked():
        name = "option:FLAG" if question.id.startswith("option:") else question.id
        text, path = (said.replace("--teacher", "FLAG") for said in (question.text, question.path))
        without = "none: an answer is needed" if question.required else _default(question.default) or "left open"
        shown = (f"`{name}`", when, _cell(text), f"`{path}`", without, f"{question.cost_of_wrong:.2f}")
        rows.append(f"| {' | '.join(shown)} |")
    return "\n".join(rows)


def answer_names() -> str:
    """The names that an answers file takes beside the plan's fields."""
    from caravan.planning.answers import MODEL, OPTION, QUESTION_PATHS

    rows = ["| name | sets |", "|---|---|"]
    rows += [f"| `{name}` | `{path}` |" for name, path in QUESTION_PATHS.items()]
    rows.append(f"| `{OPTION}FLAG` | `training.options.FLAG`: an option of the program, as it is written |")
    rows.append(f"| `{MODEL}FIELD` | `FIELD`: a question that a language model has asked |")
    return "\n".join(rows)


def help_page() -> str:
    """The help of the main command and of each subcommand."""
    import typer
    from typer.main import get_command

    from caravan.terminal.app import build_app

    command: Any = get_command(build_app())
    context = typer.Context(command, info_name="main.py", terminal_width=100, max_content_width=100)
    parts = [f"```\n{command.get_help(context)}\n```"]
    return "\n\n".join([*parts, *_subcommands(command, context)])


def _subcommands(command: Any, context: Any, above: str = "") -> list[str]:
    """The help of each command below this one, a group's before that of its commands."""
    import typer

    parts = []
    for name in command.list_commands(context):
        sub = command.get_command(context, name)
        inner = typer.Context(sub, info_name=name, parent=context, terminal_width=100, max_content_width=100)
        parts.append(f"### {above}{name}\n\n```\n{sub.get_help(inner)}\n```")
        if hasattr(sub, "list_commands"):
            parts += _subcommands(sub, inner, f"{above}{name} ")
    return parts


def policy() -> str:
    """The rules of a policy by their tables."""
    from caravan.values.policy import Policy

    rows = ["| rule | type | default | |", "|---|---|---|---|"]
    for table, field in Policy.model_fields.items():
        rows += _keys(field.annotation, f"{table}.")
    return "\n".join(rows)


def profile() -> str:
    """The keys of a cluster profile."""
    from caravan.values.target import ClusterProfile

    return "\n".join(["| key | type | default | |", "|---|---|---|---|", *_keys(ClusterProfile, "")])


def _keys(model: Any, prefix: str) -> list[str]:
    from pydantic_core import PydanticUndefined

    rows = []
    kinds = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else "" if default in (None, {}, ()) else f"`{default}`"
        rows.append(f"| `{prefix}{name}` | {_simple(kinds[name])} | {shown} | {_cell(field.description or '')} |")
    return rows


def _simple(schema: dict[str, Any]) -> str:
    """A type in words of a TOML file."""
    kinds = [option.get("type", "") for option in schema.get("anyOf", [schema])]
    names = {"array": "list", "object": "table", "string": "text", "boolean": "yes or no"}
    return " or ".join(names.get(kind, kind) for kind in kinds if kind != "null")


def example(name: str) -> str:
    """An example file as it is."""
    return f"```toml\n{(ROOT / 'docs' / 'examples' / name).read_text(encoding='utf-8').strip()}\n```"


def rights() -> str:
    """Nomad's calls by the right that they need, with what is left out without it."""
    from caravan.cluster.rights import CALLS

    rows = ["| right | calls | for | without it |", "|---|---|---|---|"]
    by_right: dict[tuple[str, str], list[Any]] = {}
    for call in CALLS:
        by_right.setdefault((call.right, call.without), []).append(call)
    for (right, without), calls in by_right.items():
        paths = ", ".join(f"`{c.method} {c.path}`" for c in calls)
        uses = ", ".join(dict.fromkeys(c.use for c in calls))
        named = f"`{right}`" if right else "any token"
        lost = without or ("no run" if right else "")
        rows.append(f"| {named} | {paths} | {uses} | {lost} |")
    return "\n".join(rows)


def _example_plan(**more: Any) -> Any:
    """A plan that says much, as a training on a real cluster does."""
    from caravan.values.plan import TrainingPlan

    fields: dict[str, Any] = {
        "goal": "fine-tune it",
        "command": ("train.py", "--lr", "2e-5"),
        "code": {"kind": "image", "location": "/app"},
        "image": "registry.example/team/train:1",
        "docker": {"ulimits": {"memlock": "-1"}, "auth": {"username": "PULL_USER", "password": "PULL_KEY"}},
        "secrets": ("HF_TOKEN", "PULL_USER", "PULL_KEY"),
        "outputs": {"kind": "volume", "location": "/caravan/outputs"},
        "mounts": ({"kind": "host", "source": "runs", "destination": "/caravan/outputs", "read_only": False},),
        "shm_mb": 8192,
        "resources": {
            "gpus": 2,
            "gpu_memory_mib": 40000,
            "gpu_prefer": ("NVIDIA A100-PCIE-40GB", "NVIDIA A100-SXM4-40GB"),
            "cpu_mhz": 16000,
            "memory_mb": 65536,
            "memory_max_mb": 98304,
            "disk_mb": 51200,
        },
        "exclude_nodes": ("gpu-7",),
        "spreads": ({"attribute": "${node.datacenter}", "weight": 50},),
        "kill_timeout_s": 30,
        "limits": {"max_run_s": 36000},
        **more,
    }
    return TrainingPlan.model_validate(fields)


def _example_job(plan: Any) -> str:
    """The plan's job file, with the texts of our own scripts left out."""
    from caravan.hcl import render_hcl
    from caravan.planning.jobspec import to_job_spec
    from caravan.values.job import ClusterFacts, ClusterKind

    facts = ClusterFacts(kind=ClusterKind.NOMAD, address="https://nomad.example", version="2.0.6")
    spec = to_job_spec(plan, facts, run_id="r1", attempt=1, job_id="caravan-r1-a01", templates=ROOT / "templates")
    text = render_hcl(spec, templates=ROOT / "templates")
    text = re.sub(r'(caravan_spec_sha256 = )".*"', r'\1"…"', text)
    # What is between braces of Go's templates is short and meant to be read; a script of ours is not.
    return re.sub(
        r"<<(EOT\d*)\n(.*?)^\1$",
        lambda m: m[0] if "{{" in m[2][:80] else f'"… {_kind(m[2])} …"',
        text,
        flags=re.M | re.S,
    )


def _kind(text: str) -> str:
    return "the launch script" if text.startswith("#!") else "a helper of the script, as it is"


def job_file() -> str:
    """A whole job file."""
    return f"```hcl\n{_example_job(_example_plan()).strip()}\n```"


def many_nodes() -> str:
    """What a job of two members has besides."""
    text = _example_job(_example_plan(launch={"nodes": 2}))
    count = re.search(r"^    count = .*$", text, re.M)
    pieces = [count[0] if count else ""]
    for block in (r"^    network \{.*?^    \}$", r"^    service \{.*?^    \}$"):
        pieces += re.findall(block, text, re.M | re.S)
    pieces += [b for b in re.findall(r"^      template \{.*?^      \}$", text, re.M | re.S) if "members.txt" in b]
    return "```hcl\n" + "\n\n".join(pieces) + "\n```"


_SHA = "4be1…"


def code_deliveries() -> str:
    """What of the job file says how the code gets there, for each way."""
    stored = f"s3::https://s3.amazonaws.com/ml-jobs/code/code-{_SHA}.tar.gz"
    commit = {"kind": "git", "location": "https://git.example/team/train.git", "ref": "0123abc"}
    volume = {"kind": "host", "source": "code", "destination": "/caravan/code"}
    ways: dict[str, dict[str, Any]] = {
        "A commit": {"code": commit},
        "An archive in a store": {"code": {"kind": "archive", "location": stored, "sha256": _SHA}},
        "In an image": {"image": "registry.example/team/train@sha256:0c5d…"},
        "On a volume": {"code": {"kind": "mount", "location": "/caravan/code/train"}, "mounts": (volume,)},
    }
    return "\n\n".join(f"{way}:\n\n{_delivery(**fields)}" for way, fields in ways.items())


def data_deliveries() -> str:
    """What of the job file says how the data gets there, for each way."""
    place = "${NOMAD_TASK_DIR}/data/corpus"
    stored = f"https://files.example/data/data-{_SHA}"
    volume = {"kind": "host", "source": "datasets", "destination": "/caravan/data"}
    sent = {"kind": "upload", "sha256": _SHA, "destination": place, "folder": True, "location": f"{stored}.tar"}
    one = {**sent, "folder": False, "location": stored, "destination": f"{place}.jsonl"}
    ways: dict[str, dict[str, Any]] = {
        "A directory in a store": {"data": sent},
        "A file in a store": {"data": one},
        "On a volume": {"data": {"kind": "volume", "destination": "/caravan/data/corpus"}, "mounts": (volume,)},
    }
    return "\n\n".join(f"{way}:\n\n{_delivery(**fields)}" for way, fields in ways.items())


def _delivery(**fields: Any) -> str:
    """Artifacts, volumes and image of a job, and the lines of its script that follow from them."""
    from caravan.planning.script import launch_script

    plan = _example_plan(**{"mounts": (), "outputs": {}, "docker": {}, "secrets": (), **fields})
    text = _example_job(plan)
    pieces = re.findall(r"^      artifact \{.*?^      \}$", text, re.M | re.S)
    pieces += re.findall(r"^    volume .*?^    \}$", text, re.M | re.S)
    pieces += re.findall(r"^      volume_mount \{.*?^      \}$", text, re.M | re.S)
    if plan.code.kind == "image" and plan.data is None:
        pieces += re.findall(r"^ +image += .*$", text, re.M)
    script = launch_script(plan, ROOT / "templates")
    wanted = ("cd /", 'cd "$task_dir', "archive=", "data=", "fetched=", 'step "unpacking', '[ -e "$data"')
    lines = [line for line in script.splitlines() if line.startswith(wanted)]
    shown = [line for line in lines if plan.data is None or not line.startswith(("cd ", "archive="))]
    return "```hcl\n" + "\n\n".join(pieces) + "\n```\n\n```sh\n" + "\n".join(shown) + "\n```"


def environment_task() -> str:
    """The task that installs packages before the training's task begins."""
    cache = {"kind": "host", "source": "cache", "destination": "/cache", "read_only": False}
    plan = _example_plan(
        code={"kind": "git", "location": "https://git.example/team/train.git", "ref": "0123abc"},
        setup={"requirements": "requirements.txt"},
        mounts=(cache,),
        env={"CARAVAN_CACHE_DIR": "/cache", "HF_HOME": "/cache/huggingface"},
        secrets=(),
        docker={},
    )
    task = re.search(r'^    task "environment" \{.*?^    \}$', _example_job(plan), re.M | re.S)
    return f"```hcl\n{task[0] if task else ''}\n```"


def launchers() -> str:
    """The command that each launcher's job ends with, on one node and on two."""
    import shlex

    from caravan.planning.launchers import launch_words
    from caravan.values.repo import Launcher

    rows = []
    for launcher in (Launcher.PYTHON, Launcher.TORCHRUN, Launcher.ACCELERATE, Launcher.DEEPSPEED, Launcher.BASH):
        command = ("train.sh",) if launcher is Launcher.BASH else ("train.py", "--lr", "2e-5")
        rows.append(f"{launcher.value}\n")
        for nodes in (1, 2):
            launch = {"launcher": launcher, "nodes": nodes, "nproc": 1 if launcher.value in ("python", "bash") else 2}
            words = launch_words(_example_plan(command=command, launch=launch))
            line = " ".join(w if "${" in w else shlex.quote(w) for w in words)
            rows.append(f"    {line}\n")
    return "\n".join(rows).rstrip()


def training_types() -> str:
    """The shipped training types with what they take and how a run of each is judged."""
    from caravan import TEMPLATES
    from caravan.training.loading import load_types

    rows = ["| type | also | what it does | data | methods | judged by |", "|---|---|---|---|---|---|"]
    for entry in load_types(TEMPLATES / "train"):
        kind = entry.type
        method = next((knob for knob in kind.knobs if knob.path == "training.method"), None)
        cells = (
            f"`{kind.name}`",
            ", ".join(f"`{alias}`" for alias in kind.aliases),
            kind.about.strip(),
            ", ".join(kind.formats),
            ", ".join(map(str, method.choices)) if method else "",
            f"`{kind.target}`" if kind.target else "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def knobs() -> str:
    """What knobs of the training types do to memory and speed, by our own estimate."""
    from caravan.planning.knob_effects import effects
    from caravan.planning.knob_references import REFERENCES

    parts = []
    for reference in REFERENCES:
        rows = ["| knob | value | GiB of each GPU | to be held | fits 80 GB | samples/s |", "|---|---|---|---|---|---|"]
        first: float | None = None
        for effect in effects(reference):
            speed, first = effect.samples_per_s, first or effect.samples_per_s
            shown = f"{speed:,.{0 if speed >= 100 else 1}f} ({speed / first:.2f} ×)" if speed and first else ""
            knob = f"`{effect.knob}`" if effect.knob and effect.knob != "GPUs" else effect.knob
            fits = "yes" if effect.fits else "no"
            rows.append(f"| {knob} | {effect.value} | {effect.gib:.1f} | {effect.high:.1f} | {fits} | {shown} |")
        parts.append(f"**`{reference.type}`**: {reference.title}.\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
    "graph": graph,
    "rooms": rooms,
    "settings": settings,
    "base-images": base_images,
    "cuda": cuda,
    "plan": plan,
    "model-sizes": model_sizes,
    "model-fields": model_fields,
    "causes": causes,
    "questions": questions,
    "answer-names": answer_names,
    "help": help_page,
    "rights": rights,
    "job-file": job_file,
    "code-deliveries": code_deliveries,
    "data-deliveries": data_deliveries,
    "environment-task": environment_task,
    "many-nodes": many_nodes,
    "launchers": launchers,
    "policy": policy,
    "policy-example": lambda: example("policy.toml"),
    "profile": profile,
    "knobs": knobs,
    "training-types": training_types,
    "profile-example": lambda: example("caravan.toml"),
}


def render(text: str) -> str:
    """A page with its generated parts written anew. Raises KeyError for a part that nobody writes."""
    return _PART.sub(lambda m: f"{m[1]}{PARTS[m['name']]()}\n{m[3]}", text)


def outdated() -> list[Path]:
    """The pages whose generated parts are not up to date."""
    return [page for page in _pages() if render(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")]


def _pages() -> list[Path]:
    return [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def main(argv: list[str]) -> int:
    """Write or check."""
    pages = outdated()
    for page in pages:
        print(f"{page.relative_to(ROOT)}: {'not up to date, run `make docs`' if '--check' in argv else 'written'}")
        if "--check" not in argv:
            page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if pages and "--check" in argv else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
