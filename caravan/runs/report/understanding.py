"""What was asked and answered, what was found in the repository, and the plan with who set each field."""

import json
import shlex
from collections.abc import Iterator

from caravan.runs.plan_file import shown_fields
from caravan.runs.report.blocks import Block, Bullets, Fold, Line, Listing, Paragraph, Table
from caravan.runs.report.material import Material
from caravan.runs.report.words import block_of, code, counted, text_of, words
from caravan.values.base import Json
from caravan.values.masking import mask_json
from caravan.values.plan import Author, TrainingPlan
from caravan.values.repo import RepoProfile, SourceLine

_FREE = ("env", "training.options")  # mappings whose keys are the user's: one row for each
_ROWS = (
    ("Entry point", "entry_point"),
    ("Launch command", "launch_command"),
    ("Working directory", "launch_cwd"),
    ("Framework", "framework"),
    ("Method", "method"),
    ("Base model", "base_model"),
    ("Data set", "dataset"),
    ("GPUs", "num_gpus"),
    ("Distributed", "distributed"),
    ("Python", "python_requires"),
    ("Dependency files", "dependency_files"),
    ("Configuration files", "config_files"),
    ("Environment variables", "env_vars_needed"),
    ("Metrics that it logs", "metrics_logged"),
)


def asked(material: Material) -> Iterator[Block]:
    """The sentence, the repository, the questions with their answers."""
    request = material.record.request
    yield Listing(block_of(request.prompt))
    cluster: Line = (", cluster ", *code(request.cluster)) if request.cluster else ()
    yield Paragraph(("Repository: ", *code(request.source), *cluster, "."))
    given = {answer.question_id: answer for answer in material.answers}
    rows = []
    for question in material.questions:
        answer = given.get(question.id)
        by = "" if answer is None else "you" if answer.by_user else "default"
        (value,) = mask_json({question.path: None if answer is None else answer.value}, material.secrets).values()
        rows.append(((text_of(question.text),), code(question.path), code(value), (by,)))
    if rows:
        yield Table(("Question", "Field", "Answer", "By"), tuple(rows))


def found(material: Material) -> Iterator[Block]:
    """What the repository was found to be, with the lines that say so."""
    profile = material.profile
    if profile is None:
        yield Paragraph(("The repository was not analysed.",))
        return
    if not profile.is_training_repo:
        yield Paragraph(("Nothing in the repository was recognised as a training.",))
    plain = mask_json(profile.model_dump(mode="json"), material.secrets)
    rows: list[tuple[Line, ...]] = []
    # What the code could spread its training by says nothing of a training in one process.
    alone = material.plan is not None and material.plan.launch.nodes * material.plan.launch.nproc == 1
    for title, name in _ROWS:
        value = None if alone and name == "distributed" else plain[name]
        if value not in (None, "", [], "."):
            rows.append(((title,), code(_listed(value)), _seen(profile, name)))
    if profile.git is not None:
        many = f"{counted(profile.git.dirty_files, 'uncommitted file')}" if profile.git.dirty_files else ""
        rows.append((("Commit",), code(profile.git.commit), words(many)))
    if rows:
        yield Table(("What", "Value", "Seen in"), tuple(rows))
    items: list[Line] = []
    for hazard in profile.hazards:
        place = code(_place(hazard.evidence[0])) if hazard.evidence else ()
        items.append((f"Hazard: {text_of(hazard.text)}", *((" (", *place, ")") if place else ())))
    items += [(f"Note: {text_of(note)}",) for note in profile.notes]
    if items:
        yield Bullets(tuple(items))


def _listed(value: Json) -> Json:
    return ", ".join(map(str, value)) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value


def _seen(profile: RepoProfile, name: str) -> Line:
    lines = profile.evidence.get(name) or ()
    return code(_place(lines[0])) if lines else ()


def _place(line: SourceLine) -> str:
    return f"{line.file}:{line.line}"


def plan(material: Material) -> Iterator[Block]:
    """The plan's fields: those that somebody set, then the rest."""
    if material.plan is None:
        yield Paragraph(("No plan was made.",))
        return
    head = ("Field", "Value", "Set by", "Why")
    telling: list[tuple[Line, ...]] = []
    rest: list[tuple[Line, ...]] = []
    for path, value, by, why in _plan_rows(material.plan, tuple(material.secrets)):
        row = (code(path), code(_command(value) if path == "command" else value), (by,), words(why))
        quiet = by == Author.DEFAULT.value or path.startswith("flags.")
        (rest if quiet else telling).append(row)
    if telling:
        yield Table(head, tuple(telling))
    if rest:
        title = f"{counted(len(rest), 'further field')}: defaults, and how the program spells its options"
        yield Fold(title, (Table(head, tuple(rest)),))


def _plan_rows(plan: TrainingPlan, known: tuple[str, ...]) -> Iterator[tuple[str, Json, str, str]]:
    """Field, value, author and reason for each field of the plan that says something."""
    for path, value in _leaves(mask_json(shown_fields(plan, {"provenance"}), known)):
        reason = next((plan.provenance[p].why for p in _prefixes(path) if p in plan.provenance), "")
        yield path, value, plan.whose(path), reason


def _command(value: Json) -> Json:
    """A command as it would be typed."""
    return shlex.join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value


def _leaves(value: dict[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for key, item in value.items():
        path = f"{prefix}{key}"
        if isinstance(item, dict) and prefix.rstrip(".") not in _FREE:
            yield from _leaves(item, f"{path}.")
        else:
            yield path, item


def _prefixes(path: str) -> Iterator[str]:
    """The path and the paths above it, the longest first."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def answers_text(answers: Json) -> str:
    """Answers as the file that `--answers` takes."""
    return json.dumps(answers, ensure_ascii=False, indent=2)
