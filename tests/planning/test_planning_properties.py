"""Properties that hold for every repository, sentence and cluster."""

from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.planning.answers import answers_to_changes, with_defaults
from caravan.planning.catalogue import CATALOGUE, Prices
from caravan.planning.checks import check_plan
from caravan.planning.choose import choose
from caravan.planning.command import command_line
from caravan.planning.draft import draft_plan
from caravan.planning.estimate import estimate
from caravan.planning.fields import is_path
from caravan.planning.jobspec import to_job_spec
from caravan.planning.launchers import launch_words
from caravan.planning.prompt_reading import read_prompt
from caravan.planning.questions import draft_questions
from caravan.planning.remembered import propose_changes
from caravan.values.job import META_SHA, ClusterFacts
from caravan.values.plan import STANDING, CodeSource, TrainingPlan, apply_changes
from caravan.values.repo import HyperparameterFlag, Launcher, RepoProfile, ScriptOption
from tests.planning.scenes import ARCHIVE, GIT, OUTPUTS, TEMPLATES, builtin, candidates, node, nomad, request, volumes

_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)
_NAME = st.text("abcxyz_-.", min_size=1, max_size=8)
_SAID = """LoRA QLoRA 3 epochs lr 1e-4 on 2 A100 GPUs under $20 Qwen/Qwen2.5-7B llama-7b cpu only batch size 0 8 for
2 hours seed rank H100 80GB x 99999999999999999999 zero no - . steps -1 1e999"""
_WORDS = st.sampled_from(_SAID.split())
_PROMPTS = st.one_of(_TEXT, st.lists(_WORDS, max_size=12).map(" ".join))
_DEFAULTS = st.one_of(st.none(), st.integers(-5, 10**6), st.floats(allow_nan=False), _TEXT, st.booleans())
_KEYS = ("batch_size", "learning_rate", "epochs", "seq_len", "gradient_accumulation", "output_dir")
_SPELLED = """--batch-size --micro_batch_size --lr --epochs --seed --model_name_or_path --data --output_dir --bf16
train.lr --use_peft --max_steps --gradient_checkpointing -b --steps"""
_FLAGS = st.sampled_from(_SPELLED.split())


@st.composite
def profiles(draw: st.DrawFn) -> RepoProfile:
    options = draw(
        st.lists(
            st.builds(ScriptOption, flag=_FLAGS, default=_DEFAULTS, required=st.booleans(), help=_TEXT),
            max_size=8,
            unique_by=lambda o: o.flag,
        )
    )
    entries = draw(st.lists(st.tuples(_NAME, st.sampled_from(Launcher), st.floats(0, 1)), max_size=3))
    key = st.builds(HyperparameterFlag, flag=st.none() | _FLAGS, default=_DEFAULTS)
    return RepoProfile(
        root="/repo",
        tree_digest="0" * 64,
        is_training_repo=True,
        entry_point=draw(st.none() | _NAME),
        launcher=draw(st.sampled_from(Launcher)),
        launch_command=draw(st.none() | _TEXT | st.just("A=1 torchrun --nproc_per_node 4 t.py --data <your data>")),
        libraries=tuple(draw(st.lists(st.sampled_from(["torch", "numpy", "peft", "transformers"]), max_size=2))),
        base_model=draw(st.none() | _NAME | st.just("Qwen/Qwen2.5-7B")),
        num_gpus=draw(st.none() | st.integers(0, 16)),
        prep_commands=tuple(draw(st.lists(_TEXT, max_size=2))),
        dependency_files=tuple(draw(st.lists(st.sampled_from(["requirements.txt", "pyproject.toml"]), max_size=2))),
        options=tuple(options),
        key_hyperparameters=draw(st.dictionaries(st.sampled_from(_KEYS), key, max_size=4)),
        metrics_logged=tuple(draw(st.lists(_NAME, max_size=3))),
        candidates=candidates(*entries),
    )


@st.composite
def clusters(draw: st.DrawFn) -> ClusterFacts:
    kinds = [(g.name, g.memory_mib) for g in CATALOGUE[:20]] + [("NVIDIA Unheard Of", 1000)]
    nodes = []
    for i in range(draw(st.integers(0, 3))):
        gpus = draw(st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 8)), max_size=2))
        nodes.append(
            node(
                f"n{i}",
                *((name, size, count) for (name, size), count in gpus),
                drivers=draw(st.sampled_from(["docker exec raw_exec", "raw_exec", "docker", "exec", ""])),
                node_pool=draw(st.sampled_from(["default", "gpu"])),
                cpu_mhz=draw(st.integers(0, 10**5)),
                memory_mb=draw(st.integers(0, 10**6)),
                host_volumes=draw(st.sampled_from([{}, volumes(ckpt=False, data=True)])),
                ready=draw(st.booleans()),
            )
        )
    return (builtin if draw(st.booleans()) else nomad)(*nodes)


_CASE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _draft(profile: RepoProfile, prompt: str, facts: ClusterFacts, code: CodeSource = ARCHIVE) -> TrainingPlan:
    plan = draft_plan(profile, request(prompt), facts, code=code, outputs=OUTPUTS, image="local/python:3.11")
    return apply_changes(plan, propose_changes(plan, profile, facts, ()))


@_CASE
@given(profiles(), _PROMPTS, clusters())
def test_questions_are_few_ranked_and_about_fields_that_exist(
    profile: RepoProfile, prompt: str, facts: ClusterFacts
) -> None:
    questions = draft_questions(profile, prompt, facts, ())
    assert len(questions) <= 5
    assert all(is_path(q.path) for q in questions)
    assert len({q.id for q in questions}) == len(questions)
    assert all(a.cost_of_wrong >= b.cost_of_wrong for a, b in pairwise(questions))
    said = {c.path for c in read_prompt(prompt)}
    assert not said & {q.path for q in questions}
    plan = _draft(profile, prompt, facts)
    apply_changes(plan, answers_to_changes(questions, with_defaults(questions, ())))


@_CASE
@given(profiles(), _PROMPTS, clusters(), st.sampled_from([ARCHIVE, GIT]))
def test_any_draft_becomes_a_job_that_is_the_same_each_time(
    profile: RepoProfile, prompt: str, facts: ClusterFacts, code: CodeSource
) -> None:
    plan = _draft(profile, prompt, facts, code)
    specs = [
        to_job_spec(plan, facts, run_id="r1", attempt=1, job_id="caravan-r1-a01", templates=TEMPLATES) for _ in "ab"
    ]
    assert specs[0] == specs[1] == specs[0].sealed()
    assert specs[0].meta[META_SHA] == specs[0].digest()
    problems = check_plan(plan, facts)
    if not plan.command:
        assert any("No command is known" in p for p in problems)
    elif plan.launch.launcher is not Launcher.NOTEBOOK:
        assert launch_words(plan)[-len(command_line(plan)) :] == command_line(plan)


@_CASE
@given(profiles(), _PROMPTS, clusters())
def test_the_chooser_keeps_what_has_standing_and_comes_to_rest(
    profile: RepoProfile, prompt: str, facts: ClusterFacts
) -> None:
    plan = _draft(profile, prompt, facts)
    standing = {path: plan.get(path) for path, p in plan.provenance.items() if p.by in STANDING}
    prices = Prices()
    for _ in range(3):
        said = estimate(plan, facts, prices=prices, profile=profile)
        if said.gpu_memory_gib is not None:
            assert abs(said.gpu_memory_gib - sum(p.gib for p in said.breakdown)) < 1e-6
        changed = apply_changes(plan, choose(plan, said, facts))
        assert all(changed.get(path) == value for path, value in standing.items())
        if changed == plan:
            break
        plan = changed
    else:
        raise AssertionError("the chooser still changes the plan the third time")


@_CASE
@given(_PROMPTS)
def test_what_a_sentence_sets_a_plan_takes(prompt: str) -> None:
    apply_changes(TrainingPlan(goal="", command=("x",)), read_prompt(prompt))
