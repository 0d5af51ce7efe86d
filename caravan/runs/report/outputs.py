"""What the run left: its result, where the files are with their checksums, and how the model is loaded."""

import shlex
from collections.abc import Iterator

from caravan.runs.report.attempts import passed_not
from caravan.runs.report.blocks import Badge, Block, Code, Fold, Line, Listing, Paragraph, Table
from caravan.runs.report.material import Material
from caravan.runs.report.words import code, counted, text_of
from caravan.values.amounts import size_text
from caravan.values.registry import ModelVersion
from caravan.values.run import RunStatus

_FILES = 12  # that are shown at once
_CLASSES = {
    "sft": "CausalLM",
    "text-classification": "SequenceClassification",
    "image-classification": "ImageClassification",
}


def left(material: Material) -> Iterator[Block]:
    """The section: result and files."""
    yield Paragraph(_result(material))
    model = material.model
    if material.plan is not None and material.attempts:
        yield Paragraph(_place(material))
    if model is not None:
        yield from _model(model)
    elif material.registered:
        yield Paragraph(("Registered as ", Code(material.registered), "."))
    elif material.record.status is RunStatus.SUCCEEDED:
        yield Paragraph(("The model is not registered.",))


def _result(material: Material) -> Line:
    outcome, attempts = material.outcome, material.attempts
    if outcome is None:
        return ("There is no result yet.",)
    reason = f": {text_of(outcome.reason)}" if outcome.reason else ""
    if attempts and passed_not(attempts[-1]):
        return (f"The job ended with exit code 0, but its result did not pass{reason}.",)
    return (Badge(outcome.kind.value.replace("_", " "), "good" if outcome.succeeded else "bad"), f"{reason}.")


def _place(material: Material) -> Line:
    sink = material.plan.outputs if material.plan is not None else None
    if sink is None:
        return ()
    if sink.kind == "allocation":
        return ("The outputs stay in the job's allocation and go with it when the cluster collects it.",)
    line: Line = (f"Outputs ({sink.kind}): ", *code(sink.location))
    return (*line, f": {text_of(material.place)}.") if material.place and material.place != sink.location else line


def _model(model: ModelVersion) -> Iterator[Block]:
    stage = f", stage {model.stage.value}" if model.version else ""
    kind = f"a {model.kind}" if model.kind == "model" else "an adapter" if model.kind else "kind not known"
    yield Paragraph(("Registered as ", Code(model.ref), f"{stage}: {kind} at ", *code(model.files.address), "."))
    files = model.files.files
    if not files:
        yield Paragraph(("Its files could not be listed from here, so their checksums are not known.",))
        return
    rows = tuple((code(file.path), (size_text(file.bytes),), code(file.sha256)) for file in files)
    head = ("File", "Size", "SHA-256")
    whole = sum(file.bytes for file in files)
    yield Paragraph((f"{counted(len(files), 'file')}, {size_text(whole)}.",))
    yield Table(head, rows[:_FILES], frozenset({1}))
    if rows[_FILES:]:
        more = f"{counted(len(rows) - _FILES, 'further file')}"
        yield Fold(more, (Table(head, rows[_FILES : _FILES + 500], frozenset({1})),))
    if model.files.sha256:
        yield Paragraph(("SHA-256 of the list of files: ", *code(model.files.sha256)))


def load(material: Material) -> Iterator[Block]:
    """The section; nothing where there is no model."""
    run, model, plan = material.record, material.model, material.plan
    if run.status is not RunStatus.SUCCEEDED or plan is None:
        return
    name = model.ref if model is not None and model.version else material.registered
    yield Paragraph(("Fetch it:",))
    folder = name.replace("@", "-") if name else run.id
    if name:
        words = ["python", "main.py", "models", "pull", name, "--to", folder]
    else:
        words = ["python", "main.py", "pull", run.id, "--to", folder]
    yield Listing(shlex.join(words), "sh")
    kind = model.kind if model is not None else ""
    if not kind and plan.training.type is not None:
        kind = "adapter" if plan.training.method in ("lora", "qlora", "dora") else "model"
    if not kind:
        yield Paragraph(("How it is loaded is not known: the repository's own code wrote it, and reads it.",))
        return
    below = "" if name else f"/outputs/{kind}"
    if model is None:
        yield Paragraph(("Where the files lie below that folder is as the training type writes them:",))
    yield Paragraph((f"Load it (a {kind}):" if kind == "model" else "Load it (an adapter over its base):",))
    yield Listing(_code(plan.training.type, kind, f"{folder}{below}", _base(material)), "python")
    if kind == "adapter":
        base: Line = code(_base(material)) or ("its base, whose name is not known",)
        yield Paragraph(("The adapter needs ", *base, " where it is loaded."))
    if plan.training.type is None:
        yield Paragraph(
            ("What the model is for was not seen: for another task than writing text, take the class of that task.",)
        )


def _base(material: Material) -> str:
    named = material.model.base_model if material.model is not None else None
    planned = material.plan.model.id if material.plan is not None else None
    return text_of(named or planned or "")


def _code(type_name: str | None, kind: str, folder: str, base: str) -> str:
    place = repr(folder)
    if type_name == "embeddings":
        if kind == "model":
            return (
                "from sentence_transformers import SentenceTransformer\n\n"
                f"model = SentenceTransformer({place})\nvectors = model.encode(['a text', 'another one'])"
            )
        return (
            "from peft import PeftModel\nfrom transformers import AutoModel, AutoTokenizer\n\n"
            f"base = AutoModel.from_pretrained({base!r})\n"
            f"model = PeftModel.from_pretrained(base, {place})\n"
            f"tokenizer = AutoTokenizer.from_pretrained({place})"
        )
    task = _CLASSES.get(type_name or "", "CausalLM")
    reads = "AutoImageProcessor" if type_name == "image-classification" else "AutoTokenizer"
    name = "processor" if reads == "AutoImageProcessor" else "tokenizer"
    if kind == "adapter" and task == "ImageClassification":
        return (
            "from peft import PeftModel\nfrom transformers import AutoConfig, AutoImageProcessor, "
            "AutoModelForImageClassification\n\n"
            f"folder = {place}\nconfig = AutoConfig.from_pretrained(folder)  # with the labels\n"
            f"base = AutoModelForImageClassification.from_pretrained({base!r}, config=config, "
            "ignore_mismatched_sizes=True)\n"
            "model = PeftModel.from_pretrained(base, folder)\n"
            "processor = AutoImageProcessor.from_pretrained(folder)"
        )
    if kind == "adapter":
        head = f"from peft import AutoPeftModelFor{task}\nfrom transformers import {reads}\n\n"
        made = f"AutoPeftModelFor{task}"
    else:
        head = f"from transformers import AutoModelFor{task}, {reads}\n\n"
        made = f"AutoModelFor{task}"
    return f"{head}folder = {place}\nmodel = {made}.from_pretrained(folder)\n{name} = {reads}.from_pretrained(folder)"
