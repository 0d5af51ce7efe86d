"""How well labelled repositories are planned: flags, batch, processes, job and questions, repository by repository.

    python bench/plans.py --labels DIR --trees DIR --inventory FILE [--only NAME] [--verbose]

DIR of the labels holds one JSON a repository, DIR of the trees a plain tree for each, named like it. Each is planned as
`main.py plan` does it, for a built-in cluster of the inventory's nodes, by rules alone. Where something is asked, a
stand-in answers: what the label knows, else the default, else a made-up value. Nothing of a repository is run.

What is checked:

- flags: every option of the planned command stands in the program's sources (see `bench/spelled.py`).
- batch: asked for an effective batch of 64 in a sentence, the command's own numbers make 64. Of a program that takes
  no batch it must be said.
- launcher: as many processes as GPUs and nodes ask for, no more GPUs than a node has.
- job: the cluster parses, validates and plans the job; it reads back as the specification that it was made of.
- asked: what no file says is asked (listed by hand in `bench/unanswerable.json`), and nothing that the label answers.
- file: the written plan, read again, gives the same plan and the same command.
"""

import argparse
import io
import json
import os
import shlex
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.spelled import Sources

CHECKS = ("flags", "batch", "launcher", "job", "asked", "file")
ASKED_BATCH = 64
_MADE_UP: tuple[Any, ...] = ("value", 8, True, ["value"])
_LAUNCHERS = {"torch.distributed.run", "accelerate.commands.launch", "deepspeed.launcher.runner"}

Document = dict[str, Any]


@dataclass
class Scored:
    """What came of one repository: for each check its faults (none: passed), or None where it does not apply."""

    name: str
    faults: dict[str, list[str] | None] = field(default_factory=dict)

    def row(self) -> str:
        """A line of the table."""
        signs = {c: "-" if self.faults.get(c) is None else "miss" if self.faults[c] else "ok" for c in CHECKS}
        return f"{self.name:44}" + "".join(f"{signs[c]:>10}" for c in CHECKS)


class Bench:
    """The cluster that is planned for, and the commands that are run against it."""

    def __init__(self, inventory: Path, place: Path) -> None:
        os.environ["CARAVAN_HOME"] = str(place / "home")
        for name in [n for n in os.environ if n.startswith(("NOMAD_", "LANGFUSE_"))]:
            del os.environ[name]
        from main import Application

        self.place = place
        self.app = Application()
        self.app.local_cluster.up(inventory)

    def close(self) -> None:
        """End the cluster."""
        self.app.local_cluster.down()

    def command(self, *words: str) -> Document:
        """What a command prints with `--json`."""
        from caravan.terminal.app import run
        from caravan.terminal.streams import Terminal
        from main import Application

        terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
        run(Application(), [*words, "--json"], terminal)
        text = terminal.stdout.getvalue()  # type: ignore[attr-defined]
        found: Document = json.loads(text) if text.strip() else {"error": "nothing was printed"}
        return found

    def plan(self, tree: Path, prompt: str, label: Document, *more: str) -> Document:
        """The plan, with what is asked answered by the stand-in."""
        answers: Document = {}
        for _ in range(4):
            file = self.place / "answers.json"
            file.write_text(json.dumps(answers), encoding="utf-8")
            found = self.command("plan", str(tree), "--prompt", prompt, *self._answered(answers, file), *more)
            still = [q for q in (found.get("question") or {}).get("questions", ()) if q["id"] not in answers]
            if not still:
                return found
            answers |= {q["id"]: stand_in(q, label) for q in still}
        return found

    @staticmethod
    def _answered(answers: Document, file: Path) -> list[str]:
        return ["--cluster", "local", *(["--answers", str(file), "--yes"] if answers else [])]

    def job(self, document: Document) -> list[str]:
        """What speaks against the plan's job: rendered, sent to the cluster, read back."""
        from contextlib import closing

        from caravan import TEMPLATES
        from caravan.hcl import mismatches, parse_hcl, read_back, render_hcl
        from caravan.planning.jobspec import to_job_spec
        from caravan.values.errors import CaravanError
        from caravan.values.plan import CodeSource, TrainingPlan
        from caravan.values.run import RunRequest

        code = CodeSource(kind="archive", location="/srv/code.tar.gz", sha256="ab" * 32)
        plan = TrainingPlan.model_validate(document["plan"]).model_copy(update={"code": code})
        try:
            with closing(self.app.cluster(RunRequest(prompt="", source="", cluster="local"))) as cluster:
                facts = cluster.facts()
                spec = to_job_spec(plan, facts, run_id="bench", attempt=1, job_id="bench-a01", templates=TEMPLATES)
                hcl = render_hcl(spec, templates=TEMPLATES)
                faults = [f"reads back differently: {d}" for d in mismatches(spec, parse_hcl(hcl))]
                job = cluster.parse(hcl)
                faults += [f"the cluster reads it differently: {d}" for d in mismatches(read_back(parse_hcl(hcl)), job)]
                answer = cluster.check(job)
        except CaravanError as error:
            return [error.line()]
        return [*faults, *answer.errors, *(failure.line() for failure in answer.failures)]

    def nodes(self) -> tuple[Any, ...]:
        """The cluster's nodes."""
        from contextlib import closing

        from caravan.values.run import RunRequest

        with closing(self.app.cluster(RunRequest(prompt="", source="", cluster="local"))) as cluster:
            return cluster.facts().usable_nodes()


def stand_in(question: Document, label: Document) -> Any:
    """What a user would answer: what the label knows of it, else the default, else something made up."""
    known = {"model.id": label.get("base_model"), "dataset.path": label.get("dataset")}
    known["resources.gpus"] = label.get("num_gpus")
    if known.get(question["path"]) is not None and not question["choices"]:
        return known[question["path"]]
    if question["path"] == "command":
        entries = label.get("entry_points") or ["train.py"]
        fitting = [c for c in question["choices"] if any(e in str(c) or str(c) in e for e in entries)]
        return fitting[0] if fitting else (question["choices"] or entries)[0]
    if question["default"] is not None:
        return question["default"]
    return question["choices"][0] if question["choices"] else _MADE_UP[0]


def arguments(document: Document) -> tuple[str, list[str]]:
    """Program and its arguments, the launcher's own left out."""
    words = shlex.split(document["command"] or "")
    command = document["plan"]["command"]
    if not command or command[0] not in words:
        return "", words
    start = words.index(command[0])
    return command[0], words[start + 1 :]


def flag_faults(document: Document, sources: Sources) -> list[str]:
    """The options of the command that the program's sources don't spell."""
    program, words = arguments(document)
    return [f"{word} is not found" for word in words if not sources.knows(program, word)]


def batch_faults(document: Document, *, takes_none: bool) -> list[str] | None:
    """Whether the numbers that the program is told make the batch that was asked for.

    None: the program takes none, and it was said.
    """
    numbers = dict(_numbers(document))
    plan = document["plan"]
    said = " ".join([*document["not_known"], *document["warnings"]])
    world = max(1, plan["resources"]["gpus"]) * plan["launch"]["nodes"]
    accumulated = next((v for n, v in numbers.items() if "accum" in n), 1)
    whole = [v for n, v in numbers.items() if "global" in n or "total_batch" in n or "effective" in n]
    each = [
        v for n, v in numbers.items() if "batch" in n and not any(w in n for w in ("global", "eval", "val", "test"))
    ]
    each = each or [plan["training"]["micro_batch"] or 1]  # what the program has itself
    made = {*whole, *(b * accumulated * world for b in each), *(b * accumulated for b in each), *each}
    if ASKED_BATCH in made:
        return []
    if takes_none and "batch" in said:
        return None
    return [f"{numbers or 'no number of a batch'} with {world} processes does not make {ASKED_BATCH}"]


def _numbers(document: Document) -> Iterator[tuple[str, int]]:
    """Options, config keys and overlays of the plan that hold a whole number, by their names."""
    from caravan.planning.overlays import overlays_of
    from caravan.values.plan import TrainingPlan

    _, words = arguments(document)
    plan = document["plan"]
    by_flag = {flag: path for path, flag in plan["flags"].items() if "batch" in path or "accum" in path}
    for word, after in zip(words, [*words, ""][1:], strict=True):
        name, joined, value = word.partition("=")
        text = value if joined else after
        if (word.startswith("-") or joined) and text.lstrip("-").isdigit():
            path = next((p for f, p in by_flag.items() if f == name), "")
            yield f"{name.lstrip('-').replace('-', '_')} {path.replace('grad_accum', 'accum')}".lower(), int(text)
    for overlay in overlays_of(TrainingPlan.model_validate(plan)):
        for key, value in overlay.values.items():
            if isinstance(value, int) and not isinstance(value, bool):
                yield key.lower(), value


def launcher_faults(document: Document, nodes: tuple[Any, ...]) -> list[str]:
    """Whether processes, GPUs and nodes go together."""
    plan, words = document["plan"], shlex.split(document["command"] or "")
    gpus, count = plan["resources"]["gpus"], plan["launch"]["nodes"]
    most = max((sum(d.count for d in n.devices) for n in nodes), default=0)
    faults = [f"{gpus} GPUs, and no node has more than {most}"] if gpus > most else []
    if count > len(nodes):
        faults.append(f"{count} nodes of {len(nodes)}")
    if not _LAUNCHERS & set(words):
        return faults
    told = {name: value for name, _, value in (word.partition("=") for word in words)}
    each = told.get("--nproc-per-node") or told.get("--num_gpus")
    every = told.get("--num_processes")
    if each is not None and int(each) != max(1, gpus):
        faults.append(f"{each} processes on each node with {gpus} GPUs")
    if every is not None and int(every) != max(1, gpus) * count:
        faults.append(f"{every} processes on {count} nodes with {gpus} GPUs each")
    if each is None and every is None:
        faults.append("the launcher is told no number of processes")
    return faults


def question_faults(document: Document, label: Document, needed: list[str]) -> list[str]:
    """What was asked although the label answers it, and what no file answers and was not asked."""
    asked = {q["id"]: q["path"] for q in document["asked"]}
    known = [key for key, path in asked.items() if _answers(label, key, path, needed)]
    said = {name for key, path in asked.items() for name in (key, path, key.removeprefix("option:"))}
    missing = [point for point in needed if point not in said]
    faults = [f"{key} is asked, and the files say it" for key in known]
    return [*faults, *(f"{point} is not asked, and no file says it" for point in missing)]


def _answers(label: Document, key: str, path: str, needed: list[str]) -> bool:
    """Whether the label's evidence answers the question."""
    if {key, path, key.removeprefix("option:")} & set(needed):
        return False
    simple = {"model.id": "base_model", "dataset.path": "dataset", "training.method": "method"}
    if path in simple:
        return label.get(simple[path]) is not None
    if path == "command":
        return bool(label.get("entry_points"))
    if path == "resources.gpus":
        return isinstance(label.get("num_gpus"), int)
    if path in ("training.epochs", "training.max_steps"):
        length = (label.get("key_hyperparameters") or {}).get("epochs") or {}
        return length.get("documented") is not None or length.get("default") is not None
    if key.startswith("option:"):
        words = shlex.split((label.get("launch_command") or "").replace("\n", " ").replace("'", '"'), posix=False)
        return any(word.partition("=")[0] == key.removeprefix("option:") for word in words)
    return False


def file_faults(bench: Bench, document: Document, written: Path) -> list[str]:
    """Whether the written plan is the same plan when it is read and planned again."""
    from caravan.runs.plan_file import load_plan
    from caravan.values.plan import TrainingPlan, plan_diff

    faults = [] if load_plan(written).digest() == document["plan_sha256"] else ["the file reads as another plan"]
    again = bench.command("plan", "--plan", str(written), "--cluster", "local", "--yes")
    if not again.get("plan"):
        return [*faults, f"the file can't be planned: {again.get('error') or again.get('detail')}"]
    plans = [TrainingPlan.model_validate(d["plan"]) for d in (document, again)]
    faults += [f"{path}: {a} became {b}" for path, (a, b) in plan_diff(*plans).items()]
    return faults + ([] if again["command"] == document["command"] else ["the command became another one"])


def score(bench: Bench, name: str, label: Document, tree: Path, needed: list[str]) -> Scored:
    """All checks of one repository."""
    found, written = Scored(name), bench.place / "plan.yaml"
    written.unlink(missing_ok=True)
    document = bench.plan(tree, label["task"], label, "--out", str(written))
    why = str(document.get("error") or document.get("detail"))[:300]
    if not document.get("plan"):
        return Scored(name, {check: [f"no plan: {why}"] for check in CHECKS})
    sources = Sources(tree)
    found.faults["flags"] = flag_faults(document, sources)
    found.faults["launcher"] = launcher_faults(document, bench.nodes())
    found.faults["job"] = bench.job(document) if document["status"] == "planned" else [f"{document['status']}: {why}"]
    found.faults["asked"] = question_faults(document, label, needed)
    found.faults["file"] = file_faults(bench, document, written)
    takes_none = ((label.get("key_hyperparameters") or {}).get("batch_size") or {}).get("flag") is None
    batched = bench.plan(tree, f"{label['task']}, with an effective batch of {ASKED_BATCH}", label)
    found.faults["batch"] = batch_faults(batched, takes_none=takes_none) if batched.get("plan") else ["no plan"]
    return found


def show(results: list[Scored]) -> None:
    """Totals of each check, and every miss."""
    for scored in results:
        for check in CHECKS:
            for fault in scored.faults.get(check) or ():
                print(f"  {scored.name}: {check}: {fault}"[:400])
    totals = defaultdict[str, list[bool]](list)
    for scored in results:
        for check in CHECKS:
            faults = scored.faults.get(check)
            if faults is not None:
                totals[check].append(not faults)
    for check in CHECKS:
        passed, count = sum(totals[check]), len(totals[check])
        print(f"{check:10} {passed} of {count} ({100 * passed / max(1, count):.1f} %)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True, help="directory of the labels")
    parser.add_argument("--trees", type=Path, required=True, help="directory of the repositories' trees")
    parser.add_argument("--inventory", type=Path, required=True, help="nodes to plan for: a file or a directory")
    parser.add_argument("--only", action="append", help="a repository's name, or a part of it; repeatable")
    args = parser.parse_args()
    needed = json.loads((Path(__file__).parent / "unanswerable.json").read_text(encoding="utf-8"))
    inventories = sorted(args.inventory.glob("*.json")) if args.inventory.is_dir() else [args.inventory]
    for inventory in inventories:
        print(f"{inventory.stem:44}" + "".join(f"{c:>10}" for c in CHECKS))
        results = []
        with tempfile.TemporaryDirectory(prefix="caravan-bench-") as place:
            bench = Bench(inventory.resolve(), Path(place))
            try:
                for path in sorted(args.labels.glob("*.json")):
                    label = json.loads(path.read_text(encoding="utf-8"))
                    tree = (args.trees / path.stem).resolve()
                    wanted = not args.only or any(part in path.stem for part in args.only)
                    if not wanted or not tree.is_dir() or not label["is_training_repo"]:
                        continue
                    results.append(score(bench, path.stem, label, tree, needed.get(path.stem, [])))
                    print(results[-1].row(), flush=True)
            finally:
                bench.close()
        show(results)


if __name__ == "__main__":
    main()
