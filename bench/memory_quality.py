"""Whether the right lesson is found: the memory's recall beside plain Mem0 search, on the same store and texts.

    python bench/memory_quality.py [--held-out | --blind] [--size 10000] [--cases 300] [--seed 12] [--no-store] [--json]

Lessons are made of problems (`memory_problems`) in contexts: what the log says in one of its wordings, read by the
rules, with a repair. A case looks for one of them in a wording that no stored lesson has, in another repository, with
other numbers and versions. Right is a lesson of the same problem where what decides (`by`) is the same, and of these
each case has one in the store; all others are distractors, of the same causes first. `--held-out` takes the wordings on
which no weight was tuned, but whose misses were looked at; `--blind` those of `memory_blind`, written before the last
changes and looked at for nothing but a figure.

`ranked` orders all lessons of the store, without looks that leave some out; `recall` is the memory as runs ask it.
`plain log` is Mem0's search for the lines of the log, `plain text` for what the lessons' own text is made of.
"""

import argparse
import json
import random
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.memory_blind import problems as with_blind  # noqa: E402
from bench.memory_problems import PROBLEMS, Problem  # noqa: E402
from caravan.agent.case_context import named  # noqa: E402
from caravan.diagnosis.rules import diagnose  # noqa: E402
from caravan.lessons import Candidate, Sought, StoredLesson, asked_text, first, lesson_key, prepared, rank, search_text  # noqa: E402
from caravan.lessons.facets import same_thing  # noqa: E402
from caravan.values.base import Json, sha256_text  # noqa: E402
from caravan.values.failure import Diagnosis, Evidence, Lesson, Stage  # noqa: E402
from caravan.values.plan import Author, PlanChange, TrainingPlan  # noqa: E402
from config import prepare_third_party_environment  # noqa: E402

MODELS = {
    ("llama", 7): ("meta-llama/Llama-2-7b-hf", "meta-llama/Meta-Llama-3-8B", "lmsys/Llama-2-7b-chat"),
    ("llama", 70): ("meta-llama/Llama-2-70b-hf", "meta-llama/Meta-Llama-3-70B"),
    ("mistral", 7): ("mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-Instruct-v0.3"),
    ("qwen", 0.5): ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen1.5-0.5B-Chat"),
    ("qwen", 14): ("Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen1.5-14B"),
    ("gemma", 2): ("google/gemma-2b", "google/gemma-2-2b-it"),
    ("opt", 0.35): ("facebook/opt-350m", "facebook/opt-350m-iml"),
    ("pythia", 1.4): ("EleutherAI/pythia-1.4b", "EleutherAI/pythia-1.4b-deduped"),
}
CONTEXTS: dict[str, tuple[Any, ...]] = {
    "model": tuple(MODELS),
    "method": ("full", "lora", "qlora", "dpo"),
    "gpu": ("Tesla T4", "Tesla V100-SXM2-32GB", "NVIDIA A10", "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"),
    "framework": ("pytorch", "transformers", "jax", "tensorflow", "lightning"),
    "gpus": (1, 2, 8),
    "torch": ("1.13.1", "2.1.2", "2.4.1", "2.8.0"),
}
PLAN = TrainingPlan(goal="fine-tune", command=("train.py",))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
Situation = dict[str, Any]


class Query(NamedTuple):
    """A failure as a run has it, and the label of the lesson that would help."""

    label: str
    log: str
    diagnosis: Diagnosis
    context: dict[str, Json]


@cache
def read(log: str) -> Diagnosis:
    """The diagnosis of a task whose log ended with these lines, by the rules."""
    killed = "OOM Killed" in log
    lines = () if killed else tuple(log.splitlines())
    return diagnose(
        Evidence(stage=Stage.VERIFY, exit_code=137 if killed else 1, oom_killed=killed, log_lines=lines), PLAN, ()
    )


class Maker:
    """Makes lessons and queries of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.logs: dict[tuple[str, str, int], str] = {}

    def situation(self, problem: Problem) -> Situation:
        """One context, drawn by chance, and a subject where the problem names one."""
        drawn = {name: self.random.choice(values) for name, values in CONTEXTS.items()}
        subject = self.random.choice(problem.subjects) if problem.subjects else ""
        return {**drawn, "family": drawn["model"][0], "size": drawn["model"][1], "subject": subject}

    def log(self, wording: str, situation: Situation) -> str:
        """A wording with this situation's subject and numbers of its own."""
        rng, subject = self.random, situation["subject"]
        module, _, symbol = subject.rpartition(".")
        told = {"s": subject, "a": module or subject, "b": symbol, "n": rng.randint(1, 997), "m": rng.randint(16, 9000)}
        told |= {
            "o": subject.lstrip("-"),
            "g": round(rng.uniform(1, 80), 2),
            "p": f"/home/u{rng.randint(1, 99)}/r{rng.randint(1, 999)}",
        }
        return wording.format(**told)

    def told(self, problem: Problem, situation: Situation) -> str:
        """The log of a lesson: one of three of its wording and subject, because reading it takes longest."""
        wording, which = self.random.choice(problem.stored), self.random.randint(0, 2)
        key = (wording, situation["subject"], which)
        if key not in self.logs:
            self.logs[key] = self.log(wording, situation)
        return self.logs[key]

    def context(self, situation: Situation, diagnosis: Diagnosis) -> dict[str, Json]:
        """The context as a run has it: another repository, other amounts, near versions."""
        rng, repository = self.random, self.random.randint(0, 10**9)
        major, minor, _ = situation["torch"].split(".")
        return {
            "framework": situation["framework"],
            "base_model": rng.choice(MODELS[situation["model"]]),
            "method": situation["method"],
            "entry_point": rng.choice(("train.py", "finetune.py", "run_clm.py", "src/main.py")),
            "code_digest": sha256_text(f"code {repository}"),
            "repository": sha256_text(f"repository {repository}"),
            "gpu_model": situation["gpu"],
            "gpus": situation["gpus"],
            "driver": "docker",
            "micro_batch": rng.choice((1, 2, 4, 8, 16, 32)),
            "max_len": rng.choice((512, 1024, 2048, 4096)),
            "memory_mb": rng.choice((16_000, 32_000, 64_000)),
            "versions": {"torch": f"{major}.{minor}.{rng.randint(0, 2)}"},
            **named(diagnosis),
        }

    def lesson(self, problem: Problem, situation: Situation) -> StoredLesson:
        """What a run taught of it, some time ago."""
        diagnosis = read(self.told(problem, situation))
        value = self.random.randint(1, 64)
        text = f"{diagnosis.cause} Tried: {problem.field} = {value}."
        lesson = Lesson(
            failure=diagnosis.failure,
            fingerprint=diagnosis.fingerprint,
            text=text,
            context=self.context(situation, diagnosis),
            changes=(PlanChange(path=problem.field, value=value, by=Author.REPAIR),),
            worked=self.random.random() < 0.8,
            source=f"run-{self.random.randint(0, 10**9)}/1",
        )
        return first(prepared(lesson), NOW - timedelta(days=self.random.uniform(0, 500)))


def label(problem: Problem, situation: Situation) -> str:
    """What makes a lesson the right one: the problem, and what decides besides."""
    return "|".join([problem.name, *(f"{part}={situation[part]}" for part in problem.by)])


def made(size: int, cases: int, seed: int, words: str) -> tuple[list[StoredLesson], list[str], list[Query]]:
    """The lessons, their labels, and the queries, each with one right lesson in the store. `words`: `tune`, `held` or
    `blind`."""
    problems = with_blind() if words == "blind" else PROBLEMS
    maker, queries = Maker(seed), list[Query]()
    lessons, labels, taken = list[StoredLesson](), list[str](), Counter[str]()
    for number in range(cases * 20):
        problem = problems[number % len(problems)]
        situation = maker.situation(problem)
        name = label(problem, situation)
        if name in taken or len(queries) >= cases:
            continue
        taken[name] += 1
        lessons.append(maker.lesson(problem, situation))
        labels.append(name)
        asked = maker.situation(problem) | {part: situation[part] for part in problem.by}
        asked = asked | {"model": situation["model"]} if {"size", "family"} & {*problem.by} else asked
        log = maker.log(maker.random.choice(getattr(problem, words)), asked)
        queries.append(Query(name, log, read(log), maker.context(asked, read(log))))
    while len(lessons) < size:
        problem = maker.random.choice(problems)
        situation = maker.situation(problem)
        if label(problem, situation) not in taken:
            lessons.append(maker.lesson(problem, situation))
            labels.append(label(problem, situation))
        elif not problem.by:  # all lessons of it are right: none more of it
            continue
    return lessons, labels, queries


class Found(NamedTuple):
    """The places of the right lessons, counted from 1; 0: not among those that were returned."""

    places: list[int]

    def figures(self) -> dict[str, float]:
        """The shares of cases with the right one first and among the first three, and the mean of 1 / place."""
        count = max(len(self.places), 1)
        return {
            "top1": sum(p == 1 for p in self.places) / count,
            "top3": sum(0 < p <= 3 for p in self.places) / count,
            "mrr": sum(1 / p for p in self.places if p) / count,
        }


def place(found: Sequence[str], wanted: str) -> int:
    """The place of the first right one."""
    return next((n for n, name in enumerate(found, 1) if name == wanted), 0)


def ranked(lessons: Sequence[StoredLesson], labels: Sequence[str], queries: Sequence[Query]) -> Found:
    """The pure ranking over all lessons, with the likeness of the store's embedder."""
    import numpy as np

    from caravan.vectors.engine import _embeddings

    model = _embeddings()
    vectors = np.asarray(model.embed_documents([search_text(s.lesson) for s in lessons]), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None] + 1e-9
    places = []
    for query in queries:
        asked = np.asarray(model.embed_query(asked_text(query.diagnosis.cause, query.context)), dtype=np.float32)
        scores = vectors @ (asked / (np.linalg.norm(asked) + 1e-9))
        near = {int(n) for n in np.argsort(-scores)[:50]}
        named_too = {n for n, s in enumerate(lessons) if same_thing(s.lesson.context, query.context)}
        chosen = [
            n for n, s in enumerate(lessons) if s.lesson.failure is query.diagnosis.failure or n in near | named_too
        ]
        candidates = [Candidate(id=f"{n:06}", stored=lessons[n], similarity=float(scores[n])) for n in chosen]
        sought = Sought(
            failure=query.diagnosis.failure,
            fingerprint=query.diagnosis.fingerprint,
            context=query.context,
            text=query.diagnosis.cause,
            confidence=query.diagnosis.confidence,
        )
        cases = rank(candidates, sought, NOW, limit=10)
        places.append(place([labels[int(c.id)] for c in cases], query.label))
    return Found(places)


def stored(lessons: Sequence[StoredLesson], labels: Sequence[str], queries: Sequence[Query]) -> dict[str, Found]:
    """The memory's recall and plain Mem0 search, in a store of these lessons."""
    from bench.memory_store import opened
    from memory import fields_of

    ids = [str(uuid.UUID(int=n + 1)) for n in range(len(lessons))]
    named_by = dict(zip(ids, labels, strict=True))
    with tempfile.TemporaryDirectory() as folder, closing(opened(Path(folder))) as memory:
        memory.remember(lessons[0].lesson.model_copy(update={"text": "the first", "context": {}, "failure": None}))
        with memory._store() as engine:
            (row,) = engine.vector_store.list(filters=None, top_k=1)[0]
            for begin in range(0, len(lessons), 500):
                part = lessons[begin : begin + 500]
                texts = [search_text(s.lesson) for s in part]
                fields = [fields_of(s, lesson_key(s.lesson)) for s in part]
                engine.vector_store.insert(
                    vectors=[engine.embedding_model.embed(text) for text in texts],
                    payloads=[{**row.payload, "data": t, **m} for t, m in zip(texts, fields, strict=True)],
                    ids=ids[begin : begin + 500],
                )

        def recall(query: Query) -> list[str]:
            known: dict[str, Any] = {"diagnosis": query.diagnosis, "context": query.context, "limit": 10}
            return [c.id for c in memory.recall(text=query.diagnosis.cause, **known)]

        def plain(text: Callable[[Query], str]) -> Callable[[Query], list[str]]:
            def search(query: Query) -> list[str]:
                asked: dict[str, Any] = {"filters": {"user_id": "caravan"}, "top_k": 10, "threshold": 0.0}
                with memory._store() as engine:
                    return [str(hit["id"]) for hit in engine.search(text(query), **asked)["results"]]

            return search

        ways = {"recall": recall, "plain log": plain(lambda q: q.log), "plain text": plain(_as_stored)}
        return {
            name: Found([place([named_by.get(i, "") for i in way(q)], q.label) for q in queries])
            for name, way in ways.items()
        }


def _as_stored(query: Query) -> str:
    return search_text(Lesson(failure=query.diagnosis.failure, text=query.diagnosis.cause, context=query.context))


def missed(queries: Sequence[Query], found: Found) -> dict[str, int]:
    """How many cases of each problem were not among the first three."""
    misses = Counter(
        f"{query.label.partition('|')[0]} ({query.diagnosis.failure})"
        for query, p in zip(queries, found.places, strict=True)
        if not 0 < p <= 3
    )
    return dict(misses.most_common())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    groups = parser.add_mutually_exclusive_group()
    groups.add_argument("--held-out", action="store_const", dest="words", const="held", default="tune")
    groups.add_argument("--blind", action="store_const", dest="words", const="blind")
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--no-store", action="store_true", help="the ranking alone, without a store")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        prepare_third_party_environment(Path(home))
        lessons, labels, queries = made(options.size, options.cases, options.seed, options.words)
        found = {"ranked": ranked(lessons, labels, queries)}
        if not options.no_store:
            found |= stored(lessons, labels, queries)
    figures = {name: way.figures() for name, way in found.items()}
    misses = {name: missed(queries, found[name]) for name in ("ranked", "recall") if name in found}
    if options.json:
        print(json.dumps({"lessons": len(lessons), "cases": len(queries), "figures": figures, "missed": misses}))
        return 0
    print(f"{len(lessons)} lessons, {len(queries)} cases, wordings: {options.words}")
    for name, row in figures.items():
        print(f"{name:11} first {row['top1']:6.1%}   among three {row['top3']:6.1%}   MRR {row['mrr']:.3f}")
    for name, problems in misses.items():
        if options.words != "blind":  # looked at, they would be blind no more
            print(f"{name} missed:", problems or "nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
