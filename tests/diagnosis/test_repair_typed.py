"""Repairs of what was typed or documented: names that mean the same, values that are lost, options over fields."""

from caravan.planning.flags import known_flags
from caravan.values.plan import Author
from caravan.values.repo import ScriptOption
from tests.diagnosis.repair_scenes import F, diffs, facts, gpu, node, plan, profile, rungs


def test_options_of_the_same_meaning_are_renamed_and_only_the_others_are_lost() -> None:
    start = plan(command=("train.py", "--learning_rate", "0.1", "--n-epochs", "3", "--fp16", "--foo", "7"), flags={})
    repo = profile(ScriptOption(flag="--lr"), ScriptOption(flag="--epochs"))
    details = {"kind": "unknown", "option": "--learning_rate --n-epochs --fp16 --foo"}
    found = rungs(F.CLI_ARGS_INVALID, start, details=details, repo=repo)
    assert diffs(found, start)[0] == {"command": ["train.py", "--lr", "0.1", "--epochs", "3"]}
    assert "without --fp16; --foo 7 is not followed" in found[0].why


def test_an_option_over_the_field_is_what_is_changed() -> None:
    start = plan({"training.options.--learning_rate": 0.5}, by=Author.USER)
    (found,) = rungs(F.NUMERIC_DIVERGENCE, start)
    assert diffs([found], start) == [{"training.options.--learning_rate": 0.17, "training.max_grad_norm": 1.0}]
    assert found.why == "lr 0.17 instead of 0.5, gradients clipped at 1.0"


def test_short_names_mean_the_nodes_gpus() -> None:
    start = plan({"resources.gpus": 4, "resources.gpu_model": "A100"})
    where = facts(node(memory_mb=640_000, devices=[gpu("NVIDIA A100-SXM4-80GB", 80, count=2)]))
    found = diffs(rungs(F.PLACEMENT_GPU_UNAVAILABLE, start, where), start)
    assert [d["resources.gpus"] for d in found] == [2]
    assert "resources.gpu_model" not in found[0]


def test_the_import_path_and_the_files_of_the_command_move_with_the_working_directory() -> None:
    files = ["exp/data/a.csv", "train.py", "cfg.yaml", "lib/m.py"]
    start = plan({"env.PYTHONPATH": ".:lib:/abs"}, command=("train.py", "--config=cfg.yaml", "--n", "3"), flags={})
    found = diffs(rungs(F.DATA_PATH_MISSING, start, details={"path": "data/a.csv"}, files=files), start)
    words = ["../train.py", "--config=../cfg.yaml", "--n", "3"]
    assert found == [{"workdir": "exp", "env.PYTHONPATH": "..:../lib:/abs", "command": words}]


def test_a_checkpoint_that_the_documented_command_names_is_left_out_there() -> None:
    words = ("train.py", "--resume_from_checkpoint", "old", "--lr", "0.1")
    repo = profile(ScriptOption(flag="--resume_from_checkpoint"), ScriptOption(flag="--lr"))
    flags = {"training.resume_from": "--resume_from_checkpoint"}
    start = plan({"training.resume_from": "old"}, by=Author.REPOSITORY, command=words, flags=flags)
    first = diffs(rungs(F.CHECKPOINT_UNUSABLE, start, repo=repo), start)[0]
    assert first == {"training.resume_from": None, "command": ["train.py", "--lr", "0.1"]}
    joined = plan({"training.resume_from": "old"}, command=("train.py", "--resume_from_checkpoint=old"), flags=flags)
    assert diffs(rungs(F.CHECKPOINT_UNUSABLE, joined, repo=repo), joined)[0]["command"] == ["train.py"]


def test_states_in_eight_bits_are_chosen_where_each_optimizer_is_spelled_out() -> None:
    repo = profile(ScriptOption(flag="--optim", choices=("adamw_torch", "adamw_8bit"), default="adamw_torch"))
    start = plan({"training.method": "full"}, flags=known_flags(repo))
    assert "training.optimizer" not in start.flags
    found = diffs(rungs(F.CUDA_OOM, start, repo=repo), start)
    assert any(d.get("training.optimizer") == "adamw_8bit" for d in found)


def test_a_port_that_the_programs_own_option_names_is_changed_there() -> None:
    repo = profile(ScriptOption(flag="--dist_port", type="int", default=29500))
    start = plan(command=("train.py", "--dist_port", "29511"), flags={})
    (path, port), *more = diffs(rungs(F.RENDEZVOUS_PORT_IN_USE, start, repo=repo, details={"port": "29511"}), start)[
        0
    ].items()
    assert path == "training.options.--dist_port"
    assert port != 29511
    assert not more


def test_a_fixed_list_that_hides_the_gpus_hides_them_on_every_node() -> None:
    start = plan({"resources.gpus": 1, "env.CUDA_VISIBLE_DEVICES": "2,3"}, by=Author.USER)
    (found,) = rungs(F.CUDA_DEVICE_UNAVAILABLE, start, facts(node(devices=[gpu("NVIDIA L4", 23)]), node("n2")))
    assert diffs([found], start) == [{"env.CUDA_VISIBLE_DEVICES": None}]
