"""Evaluates a model that a training of others made, in Hugging Face's format. Runs inside the job.

Which evaluator it is, its configuration says: a causal language model's is `sft/evaluate.py`, a text classifier's
`text-classification/evaluate.py`. An adapter is taken by its task, or else by its base's configuration.
"""

import json
import os
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
INPUT = 2
HEADS = (
    ("ForSequenceClassification", "text-classification"),
    ("ForCausalLM", "sft"),
    ("LMHeadModel", "sft"),
)
TASKS = {"SEQ_CLS": "text-classification", "CAUSAL_LM": "sft"}


def main() -> int:
    """Find out what it is and evaluate it; 2 and one line for what is not known."""
    if sys.version_info < (3, 10):  # noqa: UP036 - whose Python this is, the training says
        return refused("version", f"Caravan's evaluator needs Python 3.10; the training's is {sys.version.split()[0]}")
    folder = Path(os.environ.get("CARAVAN_MODEL", "."))
    kind = kind_of(folder)
    if kind is None:
        text = "it is in no format that is evaluated here (a causal language model or a text classifier, as Hugging"
        return refused("model_missing", f"{text} Face has them); say evaluation.command", folder)
    script = HERE / kind / "evaluate.py"
    os.environ["CARAVAN_EVALUATION_BY"] = "model"
    sys.path[:0] = [str(script.parent), str(HERE)]
    sys.argv = [str(script), *sys.argv[1:]]
    runpy.run_path(str(script), run_name="__main__")
    return 0


def refused(kind: str, text: str, place: object = "") -> int:
    """One line, as the evaluators have it."""
    print(f"caravan-train: {kind}: {f'{place}: ' if place else ''}{text}", file=sys.stderr, flush=True)
    return INPUT


def kind_of(folder: Path):
    """The evaluator's folder for a model, None for what is none of them."""
    adapter = read(folder / "adapter_config.json")
    task = adapter.get("task_type")
    if isinstance(task, str) and task:
        return TASKS.get(task)
    config = read(folder / "config.json") or read(
        Path(str(adapter.get("base_model_name_or_path") or "")) / "config.json"
    )
    if adapter and not config:
        return "sft"  # what an adapter without a task is most often for; its base may be on the hub
    for name in config.get("architectures") or ():
        for ending, kind in HEADS:
            if str(name).endswith(ending):
                return kind
    return None


def read(path: Path):
    """A JSON object; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
