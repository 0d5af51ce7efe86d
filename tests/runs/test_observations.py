"""A trace as LangFuse shows it: one tree under one root, the same whenever and however often it is made."""

import json
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.runs.observations import About, Observation, bare, observations, root_id
from caravan.runs.timeline import timeline
from caravan.runs.traces import TraceReader
from caravan.values.masking import mask_json
from caravan.values.prompts import remote_name
from observability import LocalTracer, trace_id
from prompt_shelf import DiskShelf
from prompts import LocalPromptBook, PromptVersions
from tests.fakes.clock import FakeClock
from tests.fakes.langfuse_server import LangfuseServer

ABOUT = About(
    run_id="abc12345", trace_id=trace_id("abc12345"), user="ana", session="nanoGPT", tags=("caravan",), version="1.2"
)


class GraphInterrupt(Exception):
    """Named as the graph library names its own."""


class Killed(BaseException):
    """The process is gone: what it would have written from here on is not there."""


class Scene:
    """A run's trace as the tracer writes it; `cuts` are the file's lengths at which something was over."""

    def __init__(self, home: Path) -> None:
        self.path = home / "traces" / "abc12345.jsonl"
        self.clock = FakeClock()
        self.tracer = LocalTracer(self.path, run_id="abc12345", clock=self.clock)

    @property
    def lines(self) -> bytes:
        return self.path.read_bytes()

    def made(self, data: bytes | None = None, *, live: bool = False, about: About = ABOUT) -> tuple[Observation, ...]:
        reader = TraceReader()
        reader.feed(self.lines if data is None else data)
        return observations(reader.trace(), about, self.clock.now(), live=live)

    def named(self, name: str, **known: Any) -> Observation:
        (found,) = [o for o in self.made(**known) if o.name == name]
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def metadata(observation: Observation) -> dict[str, Any]:
    return dict(json.loads(str(observation.attributes["langfuse.observation.metadata"])))


def kind(observation: Observation) -> Any:
    return observation.attributes["langfuse.observation.type"]


def test_a_run_is_one_tree_with_the_types_that_langfuse_has(scene: Scene) -> None:
    with scene.tracer.span("run", "run"):
        with scene.tracer.span("recall", "node"), scene.tracer.span("recall", "memory", failure_class="oom") as recall:
            scene.clock.sleep(2)
            recall.set(found=1, cases=[{"case": "c1", "score": 0.7}])
        with scene.tracer.span("budget_gate", "node"):
            scene.tracer.event("repair", repair="change_plan", before={"a": 1}, after={"a": 2})
        with scene.tracer.span("evaluate", "node"), scene.tracer.span("facts", "cluster"):
            scene.clock.sleep(1)
    made = scene.made()
    by_id = {o.id: o for o in made}
    tree = {o.name: (by_id[o.parent].name if o.parent else None, kind(o)) for o in made if kind(o) != "chain"}
    assert tree == {
        "run": (None, "agent"),
        "drive 1": ("run", "agent"),
        "recall": ("recall", "retriever"),
        "budget_gate": ("drive 1", "guardrail"),
        "repair": ("budget_gate", "event"),
        "evaluate": ("drive 1", "evaluator"),
        "facts": ("evaluate", "tool"),
    }
    (retriever,) = [o for o in made if kind(o) == "retriever"]
    assert json.loads(str(retriever.attributes["langfuse.observation.input"])) == {"failure_class": "oom"}
    assert json.loads(str(retriever.attributes["langfuse.observation.output"])) == [{"case": "c1", "score": 0.7}]
    repair = by_id[next(o.id for o in made if o.name == "repair")]
    assert repair.attributes["langfuse.observation.input"] == '{"a":1}'
    assert repair.attributes["langfuse.observation.output"] == '{"a":2}'
    assert (made[0].end_ns - made[0].start_ns, retriever.end_ns - retriever.start_ns) == (3 * 10**9, 2 * 10**9)
    for observation in made:
        assert observation.attributes["langfuse.trace.name"] == "caravan run"
        assert observation.attributes["user.id"] == "ana"
        assert observation.attributes["session.id"] == "nanoGPT"


def test_a_models_call_has_its_model_tokens_price_and_prompt(scene: Scene) -> None:
    asked = [{"role": "user", "content": "why?"}]
    with (
        scene.tracer.span("run", "run"),
        scene.tracer.span(
            "model diagnose", "generation", prompt="diagnose", prompt_number=7, thinking=True, input=asked
        ) as call,
    ):
        call.set(model="qwen", prompt_tokens=120, completion_tokens=9, usd=0.002, output={"role": "assistant"})
    told = scene.named("model diagnose").attributes
    assert told["langfuse.observation.model.name"] == "qwen"
    assert json.loads(str(told["langfuse.observation.usage_details"])) == {"input": 120, "output": 9}
    assert json.loads(str(told["langfuse.observation.cost_details"])) == {"total": 0.002}
    assert told["langfuse.observation.prompt.name"] == remote_name("diagnose"), "as the prompt is called there"
    assert told["langfuse.observation.prompt.version"] == 7
    assert "why?" not in json.dumps(told)
    told = scene.named("model diagnose", about=ABOUT.model_copy(update={"content": True})).attributes
    assert json.loads(str(told["langfuse.observation.input"])) == asked


def test_the_prompt_that_a_call_is_linked_to_is_one_that_langfuse_has(scene: Scene, tmp_path: Path) -> None:
    with LangfuseServer() as server:
        versions = PromptVersions(
            LocalPromptBook(TEMPLATES / "prompts"), DiskShelf(tmp_path, scene.clock), server.access()
        )
        with closing(versions), scene.tracer.span("run", "run"):
            made = versions.push(versions.shipped("plan"))
            with scene.tracer.span("model plan", "generation", prompt="plan", prompt_number=made.prompt.number):
                pass
        told = scene.named("model plan").attributes
        rows = server.kept.prompts[str(told["langfuse.observation.prompt.name"])]
    assert [row["version"] for row in rows] == [told["langfuse.observation.prompt.version"]]


def test_a_prompt_that_langfuse_does_not_manage_is_not_linked(scene: Scene) -> None:
    with scene.tracer.span("run", "run"), scene.tracer.span("model plan", "generation", prompt="plan"):
        pass
    told = scene.named("model plan")
    assert "langfuse.observation.prompt.name" not in told.attributes
    assert metadata(told)["prompt"] == "plan"


def test_what_a_killed_process_left_open_is_cut_off_as_soon_as_nobody_works_on_it(scene: Scene) -> None:
    with suppress(Killed), scene.tracer.span("run", "run"), scene.tracer.span("deploy_job", "node"):
        scene.clock.sleep(4)
        scene.tracer.event("last sign of life")
        kept = scene.lines
        raise Killed
    scene.path.write_bytes(kept)
    assert [o.name for o in scene.made(live=True)] == ["run", "last sign of life"]
    cut = scene.named("deploy_job")
    assert cut.attributes["langfuse.observation.level"] == "WARNING"
    assert "killed" in cut.message
    assert cut.end_ns - cut.start_ns == 4 * 10**9


def test_waiting_for_a_person_is_seen(scene: Scene) -> None:
    with suppress(GraphInterrupt), scene.tracer.span("run", "run"), scene.tracer.span("approve", "node") as span:
        span.set(waiting=True, asks=["approval"])
        raise GraphInterrupt
    waiting = ABOUT.model_copy(update={"waits": True, "status": "waiting"})
    scene.clock.sleep(60)
    assert [o.name for o in scene.made(about=waiting)] == ["run", "drive 1", "approve"]  # it is not over
    assert scene.named("approve").message == "asks a person: approval"
    with scene.tracer.span("run", "run"):
        pass  # somebody looked
    scene.clock.sleep(40)
    with scene.tracer.span("run", "run"), scene.tracer.span("deploy_job", "node"):
        scene.clock.sleep(1)
    wait = scene.named("waiting for a person")
    assert wait.end_ns - wait.start_ns == 100 * 10**9
    assert wait.parent == root_id(ABOUT.trace_id)
    assert metadata(wait)["asks"] == ["approval"]


def test_a_watch_has_its_phases_once_it_is_over(scene: Scene) -> None:
    with scene.tracer.span("run", "run"):
        with scene.tracer.span("watch", "cluster"):
            scene.tracer.event("phase", phase="starting", reason="image")
            scene.clock.sleep(3)
            scene.tracer.event("phase", phase="running", reason="")
            scene.clock.sleep(5)
            assert [o.name for o in scene.made(live=True)] == ["run"]
        made = scene.made(live=True)
    assert [(o.name, (o.end_ns - o.start_ns) / 1e9) for o in made[1:]] == [
        ("watch", 8),
        ("starting", 3),
        ("running", 5),
    ]


def test_an_error_is_the_observations_own(scene: Scene) -> None:
    with suppress(OSError), scene.tracer.span("run", "run"), scene.tracer.span("parse", "cluster"):
        raise OSError("no route")
    failed = scene.named("parse")
    assert (failed.failed, failed.message) == (True, "OSError: no route")
    assert failed.attributes["langfuse.observation.level"] == "ERROR"


def test_names_and_keys_are_masked_too(scene: Scene) -> None:
    with scene.tracer.span("run", "run"), scene.tracer.span("a hush-hush-name", "node", **{"hush-hush-name": [1]}):
        pass
    reader = TraceReader()
    reader.feed(scene.lines)
    made = observations(
        reader.trace(),
        ABOUT,
        scene.clock.now(),
        live=False,
        harmless=lambda value: mask_json(value, ("hush-hush-name",)),
    )
    assert "hush-hush" not in repr(made)


def test_a_bare_observation_has_no_long_texts(scene: Scene) -> None:
    with scene.tracer.span("run", "run", text="x" * 1000):
        pass
    small = bare(scene.named("drive 1"))
    assert len(repr(small)) < 900
    assert bare(small) is small


def test_a_damaged_file_is_a_tree_all_the_same(scene: Scene) -> None:
    rows: list[dict[str, Any]] = [
        {
            "type": "start",
            "span": "not hexadecimal",
            "parent": "nobody",
            "name": "x",
            "at": "2026-01-01T00:00:00+00:00",
        },
        {
            "type": "start",
            "span": "0" * 16,
            "parent": "not hexadecimal",
            "at": "2026-01-01T00:00:01+00:00",
            "name": "y",
        },
        {"type": "end", "span": "0" * 16, "at": "2026-01-01T00:00:00+00:00", "seconds": -3, "status": "ok"},
    ]
    made = scene.made("".join(f"{json.dumps(row)}\n" for row in rows).encode() + b'{"torn')
    assert {len(o.id) for o in made} == {16}
    assert all(o.end_ns >= o.start_ns > 0 for o in made)
    assert {o.parent for o in made} <= {None, *(o.id for o in made)}


STEPS = st.lists(
    st.tuples(st.sampled_from(["node", "call", "leave", "event", "phase", "fail"]), st.integers(0, 5)), max_size=12
)
DRIVES = st.lists(st.tuples(STEPS, st.sampled_from(["ends", "asks", "killed", "look"]), st.integers(0, 50)), max_size=5)


def played(scene: Scene, drives: list[tuple[list[tuple[str, int]], str, int]]) -> list[int]:
    """Write such a trace; the file's length after each line comes back, in the drives in which they were written."""
    cuts = [0]
    for steps, end, pause in drives:
        try:
            with scene.tracer.span("run", "run"):
                _steps(scene, [] if end == "look" else list(steps), end, cuts)
                if end == "killed":
                    raise Killed(scene.lines)
        except (GraphInterrupt, OSError):
            pass
        except Killed as killed:
            scene.path.write_bytes(killed.args[0])
        cuts.append(len(scene.lines))
        scene.clock.sleep(pause)
    return cuts


def _steps(scene: Scene, steps: list[tuple[str, int]], end: str, cuts: list[int]) -> None:
    while steps:
        what, seconds = steps.pop(0)
        scene.clock.sleep(seconds)
        if what == "leave":
            break
        if what in ("event", "phase"):
            scene.tracer.event(what, phase="running")
        elif what == "fail":
            raise OSError("it failed")
        else:
            with scene.tracer.span("approve" if what == "node" else "watch", what):
                _steps(scene, steps, end, cuts)
                if end == "killed" and not steps:
                    cuts.append(len(scene.lines))
                    raise Killed(scene.lines)
        cuts.append(len(scene.lines))
    if end == "asks":
        with scene.tracer.span("approve", "node") as span:
            span.set(waiting=True, asks=["approval"])
            raise GraphInterrupt


@settings(max_examples=60, deadline=None)
@given(drives=DRIVES)
def test_what_is_sent_beside_the_run_is_what_is_made_of_the_whole_file(tmp_path_factory: Any, drives: Any) -> None:
    scene = Scene(tmp_path_factory.mktemp("scene"))
    cuts = played(scene, drives)
    if not drives:
        return
    data = scene.lines
    whole = {o.id: o for o in scene.made(data)}
    made = scene.made(data)
    assert len(whole) == len(made)
    assert [o.id for o in made if o.parent is None] == [root_id(ABOUT.trace_id)]
    assert all(o.parent in whole for o in made[1:])
    for cut in sorted({c for c in cuts if c <= len(data)}):
        for early in scene.made(data[:cut], live=True)[1:]:
            assert early == whole.get(early.id)
        first = scene.made(data[:cut], live=True)[:1]
        assert all((o.id, o.start_ns, o.parent) == (made[0].id, made[0].start_ns, None) for o in first)


@settings(max_examples=40, deadline=None)
@given(drives=DRIVES)
def test_the_tree_is_the_one_that_is_printed(tmp_path_factory: Any, drives: Any) -> None:
    scene = Scene(tmp_path_factory.mktemp("scene"))
    played(scene, drives)
    if not drives:
        return
    reader = TraceReader()
    reader.feed(scene.lines)
    line = timeline(reader.trace(), scene.clock.now() + timedelta(days=1), driven=False, waits=False)
    printed = [(step.name, step.kind, step.state.value) for _, step in line.walk()]
    made = scene.made()[1:]
    assert [(o.name, metadata(o)["kind"], metadata(o).get("state", "")) for o in made] == printed
