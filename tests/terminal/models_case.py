"""A registered model for the tests of `models`: its files on a disk, in an allocation, at a URL or in a volume."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from caravan.terminal.app import run
from caravan.values.evaluation import CheckKind, GateCheck, GateReport, GateVerdict
from caravan.values.registry import CodeVersion, DataVersion, ModelFile, ModelFiles, ModelVersion, files_digest
from caravan.values.run import RunRecord, RunRequest, RunStatus
from caravan.values.training import MetricSpec
from tests.fakes.wiring import FakeWiring, nobody, printed

FILES = {
    "adapter_config.json": b'{"task_type": "CAUSAL_LM", "base_model_name_or_path": "org/base"}',
    "adapter_model.safetensors": bytes(range(256)) * 40,
    "tokenizer/tokenizer.json": b"{}",
}
LOSS = MetricSpec(name="eval_loss", title="loss on held-out examples", unit="nats", direction="min")
ACCURACY = MetricSpec(name="eval_accuracy", title="share of right answers", type="share", direction="max")
PASSED = GateReport(
    verdict=GateVerdict.PASS,
    checks=(GateCheck(kind=CheckKind.BASE, verdict=GateVerdict.PASS, text="better than its base", metric="eval_loss"),),
    judged_by="evaluation",
    recorded={"seed": 0},
)
FAILED = GateReport(
    verdict=GateVerdict.FAIL,
    checks=(GateCheck(kind=CheckKind.OVERFIT, verdict=GateVerdict.FAIL, text="held-out loss rose by 40 %"),),
    judged_by="evaluation",
)


def listed(files: dict[str, bytes]) -> tuple[ModelFile, ...]:
    """The files as a job lists them."""
    rows = sorted(files.items())
    return tuple(ModelFile(path=n, bytes=len(d), sha256=hashlib.sha256(d).hexdigest()) for n, d in rows)


def add(
    wiring: FakeWiring,
    address: str,
    *,
    files: dict[str, bytes] | tuple[ModelFile, ...] = FILES,
    run_id: str = "abc12345",
    **more: Any,
) -> ModelVersion:
    """Register a model; each is an hour older than the one before it."""
    rows = listed(files) if isinstance(files, dict) else files
    told = {
        "name": "chat",
        "created_at": wiring.clock.now() - timedelta(hours=1),
        "base_model": "org/base",
        "method": "lora",
        "kind": "adapter",
        "metrics": {"eval_loss": 1.25, "eval_accuracy": 0.5},
        "base_metrics": {"eval_loss": 2.5},
        "definitions": (LOSS, ACCURACY),
        "gate": PASSED,
        "code": CodeVersion(source="https://git.example/train", commit="c0ffee"),
        "data": DataVersion(path="data/train.jsonl", sha256="d" * 64, rows=900),
        "plan_sha256": "a" * 64,
        "by": "ada",
        **more,
    }
    place = ModelFiles(address=address, files=rows, sha256=files_digest(rows) if rows else None)
    return wiring.registered.register(ModelVersion(run_id=run_id, files=place, **told))


def on_disk(root: Path, files: dict[str, bytes] = FILES) -> Path:
    """The files in a folder."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def a_run(wiring: FakeWiring, run_id: str = "abc12345", status: RunStatus = RunStatus.SUCCEEDED) -> RunRecord:
    """A run in the store."""
    now = wiring.clock.now()
    request = RunRequest(prompt="p", source="/s", cluster="x")
    record = RunRecord(id=run_id, created_at=now, updated_at=now, status=status, request=request)
    wiring.runs.create_run(record)
    return record


def models(wiring: FakeWiring, *words: str, terminal: Any = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `models …`."""
    terminal = terminal or nobody()
    code = run(wiring, ["models", *words], terminal)
    return code, *printed(terminal)


def document(wiring: FakeWiring, *words: str) -> Any:
    """What `models … --json` prints, which must be one document."""
    code, out, err = models(wiring, *words, "--json")
    assert code == 0, err
    return json.loads(out)


def tree(root: Path) -> dict[str, bytes]:
    """The files below a folder by their names."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
