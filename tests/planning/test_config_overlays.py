"""Which config keys hold the plan's fields, what is laid over them, and what counts as followed."""

import json
from typing import Any

import pytest

from caravan.planning.catalogue import Prices
from caravan.planning.checks import check_job
from caravan.planning.command import read_command, unpassed
from caravan.planning.config_keys import configured, repository_values
from caravan.planning.draft import draft_plan
from caravan.planning.estimate import estimate
from caravan.planning.overlays import overlays_of, targets
from caravan.planning.script import command_words, launch_script, overlay_texts
from caravan.values.plan import (
    Author,
    CodeSource,
    ConfigKey,
    ConfigOverlay,
    PlanChange,
    TrainingPlan,
    apply_changes,
)
from caravan.values.repo import ConfigValue, Launcher, RepoProfile, ScriptOption
from tests.planning.scenes import ARCHIVE, OUTPUTS, TEMPLATES, bare_plan, builtin, request

AXOLOTL = {
    "base_model": "Qwen/Qwen2.5-0.5B",
    "datasets.0.path": "data/train.jsonl",
    "micro_batch_size": 8,
    "num_epochs": 3,
    "learning_rate": "2e-4",
    "sequence_len": 2048,
    "lora_r": 16,
    "bf16": "auto",
    "output_dir": "./out",
    "eval_batch_size": 1,
}


def values(path: str, pairs: dict[str, Any]) -> tuple[ConfigValue, ...]:
    return tuple(ConfigValue(file=path, key=k, value=v, line=n) for n, (k, v) in enumerate(pairs.items(), start=1))


def profile(command: str, *found: ConfigValue, **more: Any) -> RepoProfile:
    fields: dict[str, Any] = {
        "root": "/repo",
        "tree_digest": "0" * 64,
        "is_training_repo": True,
        "entry_point": "train.py",
        "launcher": Launcher.PYTHON,
        "launch_command": command,
        "config_files": tuple(dict.fromkeys(v.file for v in found)),
        "config_values": found,
        **more,
    }
    return RepoProfile(**fields)


def draft(found: RepoProfile, *changes: PlanChange) -> TrainingPlan:
    plan = draft_plan(found, request(sets=changes), builtin(), code=ARCHIVE, outputs=OUTPUTS, image=None)
    return apply_changes(plan, changes)


def change(path: str, value: Any, by: Author = Author.USER) -> PlanChange:
    return PlanChange(path=path, value=value, by=by)


def axolotl() -> RepoProfile:
    command = "accelerate launch -m axolotl.cli.train config/lora.yml"
    more = {"launcher": Launcher.ACCELERATE, "entry_point": None, "framework": "pytorch"}
    return profile(command, *values("config/lora.yml", AXOLOTL), **more)


def test_the_repositorys_own_values_reach_the_plan_and_are_not_touched() -> None:
    plan = draft(axolotl())
    training = plan.training
    assert (training.micro_batch, training.epochs, training.lr) == (8, 3, 2e-4)
    assert (training.max_len, training.lora_rank, plan.model.id) == (2048, 16, "Qwen/Qwen2.5-0.5B")
    assert plan.set_by("training.micro_batch") is Author.REPOSITORY
    assert plan.provenance["training.micro_batch"].why == "micro_batch_size in config/lora.yml:3"
    (overlay,) = overlays_of(plan)  # only the place of the outputs, which is the plan's business
    assert overlay == ConfigOverlay(path="config/lora.yml", values={"output_dir": OUTPUTS.location})
    assert estimate(plan, builtin(), prices=Prices(), profile=axolotl()).assumptions


def test_what_somebody_sets_is_laid_over_and_counts_as_followed() -> None:
    found = axolotl()
    changes = [change("training.micro_batch", 2, Author.REPAIR), change("training.grad_accum", 4, Author.REPAIR)]
    changes += [change("training.grad_checkpointing", True), change("training.epochs", 1.0)]
    plan = apply_changes(draft(found), changes)
    (overlay,) = overlays_of(plan)
    assert overlay.values == {
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "gradient_checkpointing": True,
        "num_epochs": 1,
        "output_dir": OUTPUTS.location,
    }
    assert isinstance(overlay.values["num_epochs"], int)
    assert unpassed(plan) == ()
    assert unpassed(apply_changes(plan, [change("training.warmup", 0.1)])) == ("training.warmup",)


def test_precision_is_a_pair_of_switches() -> None:
    found = profile("python train.py c.yaml", *values("c.yaml", {"train.bf16": True, "train.fp16": False}))
    plan = draft(found)
    assert plan.training.precision == "bf16"
    (overlay,) = overlays_of(apply_changes(plan, [change("training.precision", "fp16")]))
    assert overlay.values == {"train.bf16": False, "train.fp16": True}
    assert unpassed(apply_changes(plan, [change("training.precision", "fp32")])) == ()


def test_a_word_of_the_command_beats_the_file_so_it_becomes_the_flag() -> None:
    command = "python train.py train.batch_size=8 +model=small"
    found = profile(command, *values("conf/train.yaml", {"batch_size": 4, "lr": 0.1}))
    plan = apply_changes(draft(found), [change("training.micro_batch", 2), change("training.lr", 0.2)])
    assert plan.flags["training.micro_batch"] == "train.batch_size"
    assert repository_values(found, read_command(command))["training.micro_batch"][0] == 8
    assert command_words(plan)[-2:] == ("train.batch_size=2", "+model=small")
    (overlay,) = overlays_of(plan)
    assert overlay.values == {"batch_size": 2, "lr": 0.2}


def test_transformers_parser_takes_nothing_beside_its_config() -> None:
    options = tuple(ScriptOption(flag=f"--{n}") for n in ("per_device_train_batch_size", "learning_rate", "output_dir"))
    found = profile(
        "python train.py recipe.json",
        *values("recipe.json", {"learning_rate": 0.1}),
        options=options,
        cli_style="hfargparser",
    )
    told = configured(found, read_command("python train.py recipe.json"))
    assert told.flags == {}
    assert told.keys["training.micro_batch"] == ConfigKey(path="recipe.json", key="per_device_train_batch_size")
    plan = draft(found, change("training.micro_batch", 2))
    assert command_words(plan) == ("python", "train.py", "recipe.json")
    assert overlays_of(plan)[0].values == {
        "per_device_train_batch_size": 2,
        "output_dir": OUTPUTS.location,
    }


@pytest.mark.parametrize(
    ("pairs", "path", "key"),
    [
        ({"eval.batch_size": 1, "train.batch_size": 2}, "training.micro_batch", "train.batch_size"),
        ({"a.batch_size": 1, "b.batch_size": 2}, "training.micro_batch", None),
        ({"a.batch_size": 1, "batch_size": 2}, "training.micro_batch", "batch_size"),
        ({"optimizer.lr": 1e-4, "scheduler.x.lr": 1}, "training.lr", "optimizer.lr"),
        ({"batch_size": True}, "training.micro_batch", None),
        ({"batch_size": "${train.bs}"}, "training.micro_batch", "batch_size"),
        ({"dataset": 3}, "dataset.path", None),
        ({"finetuning_type": "lora"}, "training.method", "finetuning_type"),
        ({"max_steps": 5}, "training.epochs", None),
    ],
)
def test_a_key_in_doubt_is_left_out(pairs: dict[str, Any], path: str, key: str | None) -> None:
    keys = configured(profile("python train.py", *values("c.yaml", pairs)), None).keys
    assert (keys[path].key if path in keys else None) == key


def test_quantised_adapters_are_no_kind_of_fine_tuning_there() -> None:
    found = profile("llamafactory-cli train c.yaml", *values("c.yaml", {"finetuning_type": "lora"}))
    plan = draft(found, change("training.method", "qlora"))
    assert unpassed(plan) == ("training.method",)
    assert "finetuning_type" not in {k for o in overlays_of(plan) for k in o.values}


def mounted(*words: str, **more: Any) -> TrainingPlan:
    keys = {"training.micro_batch": ConfigKey(path="conf/c.yaml", key="bs")}
    code = CodeSource(kind="mount", location="/srv/code")
    plan = bare_plan(*words, code=code, config_keys=keys, **more)
    return apply_changes(plan, [change("training.micro_batch", 2)])


@pytest.mark.parametrize("word", ["conf/c.yaml", "--config=conf/c.yaml", "./conf/c.yaml"])
def test_a_mounted_file_is_changed_in_a_copy_that_the_command_is_given(word: str) -> None:
    plan = mounted("train.py", word)
    copy = "${NOMAD_TASK_DIR}/configs/conf/c.yaml"
    assert command_words(plan)[-1] == (f"--config={copy}" if "=" in word else copy)
    assert targets(plan) == (copy,)
    assert unpassed(plan) == ()
    script = launch_script(plan, TEMPLATES)
    line = next(row for row in script.splitlines() if "laying over" in row)
    assert line.endswith('"$code_dir"/conf/c.yaml "${NOMAD_TASK_DIR}"/configs/conf/c.yaml')


def test_a_mounted_file_that_the_command_does_not_name_is_not_followed() -> None:
    plan = mounted("train.py")
    assert overlays_of(plan) == ()
    assert unpassed(plan) == ("training.micro_batch",)
    told = mounted("train.py", config_overlays=(ConfigOverlay(path="conf/c.yaml", values={"a": 1}),))
    assert any("nothing there is ever changed" in p for p in check_job(told, builtin()))


@pytest.mark.parametrize("path", ["/etc/passwd", "../other.yaml", "a/../../b.yaml"])
def test_only_files_of_the_code_are_laid_over(path: str) -> None:
    plan = bare_plan(config_overlays=(ConfigOverlay(path=path, values={"a": 1}),))
    assert any("name a path below it" in p for p in check_job(plan, builtin()))


def test_what_a_person_laid_over_stands() -> None:
    keys = {"training.lr": ConfigKey(path="c.yaml", key="lr")}
    plan = bare_plan(config_keys=keys, config_overlays=(ConfigOverlay(path="c.yaml", values={"lr": 9, "x": 1}),))
    plan = apply_changes(plan, [change("training.lr", 0.5)])
    assert json.loads(overlay_texts(plan)[0]) == {"text": None, "values": {"lr": 9, "x": 1}}
