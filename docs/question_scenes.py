"""For the table of questions: small repositories and clusters in which each question is really asked.

Each scene says in words when a question is asked. The table is what the rules answer to it, so that it can't tell of
a question that nobody asks; a rule that no scene meets is an error.
"""

from collections.abc import Iterator
from typing import Any

_GPUS = {"vendor": "nvidia", "type": "gpu", "count": 4}
_PROFILE: dict[str, Any] = {
    "root": "/repo",
    "tree_digest": "0" * 64,
    "is_training_repo": True,
    "entry_point": "train.py",
    "launcher": "python",
    "launch_command": "python train.py",
}


def scenes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A question's id, when it is asked, and the fields of a scene in which it is."""
    near = [{"entry_point": f"train_{name}.py", "launcher": "python", "score": 5} for name in ("a", "b")]
    yield "entry_point", "two scripts are as likely", {"profile": {"candidates": near, "entry_point": "train_a.py"}}
    nothing = {"entry_point": None, "launcher": "none", "launch_command": None, "is_training_repo": False}
    yield "entry_point", "nothing was found that trains", {"profile": nothing}
    demanded = ({"flag": "--teacher", "required": True},)
    yield "option:--teacher", "the program demands an option that nothing fills", {"profile": {"options": demanded}}
    model = ({"flag": "--model", "required": True},)
    yield (
        "base_model",
        "an option takes a base model and nothing names one",
        {
            "profile": {"options": model},
            "flags": {"model.id": "--model"},
        },
    )
    data = ({"flag": "--data", "required": True},)
    yield (
        "dataset",
        "an option takes data and nothing names any",
        {
            "profile": {"options": data},
            "flags": {"dataset.path": "--data"},
        },
    )
    yield "outputs", "on a Nomad cluster, where no one has said where outputs go", {}
    yield "max_cost", "GPUs on a Nomad cluster, and no limit of time", {"gpu": True}
    method = ({"flag": "--method", "choices": ("full", "lora")},)
    yield (
        "method",
        "the program takes a method and none was found",
        {
            "profile": {"options": method},
            "flags": {"training.method": "--method"},
        },
    )
    yield "gpus", "nodes have several GPUs and the repository does not say how many", {"gpu": True, "cards": ("A100",)}
    yield (
        "gpu_type",
        "the cluster has GPUs of several types",
        {
            "profile": {"num_gpus": 1, "confidence": {"num_gpus": 1.0}},
            "gpu": True,
            "cards": ("A100", "L40S"),
            "known": ("limits.max_run_s",),
        },
    )
    yield "epochs", "an option for epochs has no default that could be read", {"flags": {"training.epochs": "--epochs"}}
    yield (
        "target_metric",
        "several metrics are logged and none is clearly the one",
        {"profile": {"metrics_logged": ("accuracy", "f1", "bleu")}},
    )


def asked() -> Iterator[tuple[str, Any]]:
    """When, and the question as the rules ask it. Raises LookupError for a rule that asks nothing in any scene."""
    from caravan.planning.question_rules import RULES, Scene
    from caravan.values.job import ClusterFacts, NodeFacts
    from caravan.values.repo import RepoProfile

    met = set()
    for name, when, said in scenes():
        nodes = tuple(
            NodeFacts(id=str(n), name=f"gpu-{n}", drivers={"exec": {}}, devices=({**_GPUS, "model": card},))
            for n, card in enumerate(said.get("cards", ("A100",)))
        )
        scene = Scene(
            profile=RepoProfile.model_validate({**_PROFILE, **said.get("profile", {})}),
            prompt="train it",
            facts=ClusterFacts(kind="nomad", address="https://nomad.example", nodes=nodes),
            known=frozenset(said.get("known", ())),
            flags=said.get("flags", {}),
            gpu=said.get("gpu", False),
        )
        found = [(rule, question) for rule in RULES for question in rule(scene)]
        met |= {rule for rule, _ in found}
        yield when, next(question for _, question in found if question.id == name)
    yield "data alone, of which more than one type could be trained", _type_question()
    missing = [rule.__name__ for rule in RULES if rule not in met]
    if missing:
        raise LookupError(f"docs/question_scenes.py has no scene for {', '.join(missing)}")


def _type_question() -> Any:
    from caravan.agent.training import type_question
    from caravan.values.training import TrainingChoice

    return type_question(TrainingChoice(type="sft", digest="0" * 64, sure=0.5, others=("embeddings",)))[0]
