"""What one run was seen to need is stored once, and the next run's estimate says so."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from caravan.agent.learning import _peak_gib
from caravan.planning.catalogue import Prices
from caravan.values.dialogue import Ask, Reply
from caravan.values.job import DeviceGroup
from caravan.values.measurement import Measurement
from caravan.values.plan import Author, PlanChange
from caravan.values.run import SMOKE_PATH, RunRecord, RunStatus
from caravan.values.samples import SAMPLES_PATH
from tests.agent.test_deadlines import first_then
from tests.agent.test_loop import World, ended
from tests.fakes.cluster import Script, one_node

OOM = (
    b"torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
    b"44.40 GiB of which 1.00 GiB is free.\n"
)
STEPS = {"steps": 10, "seconds_per_step": 2.0, "peak_gpu_gib": 21.5, "allocated_gib": 20.0, "ended": "steps"}
SETS: dict[str, Any] = {
    "model.id": "Qwen/Qwen2.5-7B",
    "training.method": "lora",
    "training.micro_batch": 2,
    "training.max_len": 1024,
    "training.max_steps": 100,
    "resources.gpus": 1,
    "smoke.on": True,
    "limits.max_run_s": 7200,
    "resources.memory_mb": 4096,
}


def sets(**more: Any) -> tuple[PlanChange, ...]:
    return tuple(PlanChange(path=p, value=v, by=Author.USER) for p, v in {**SETS, **more}.items())


def world_of(tmp_path: Path, script: Any) -> World:
    world = World(tmp_path, script)
    (world.repo / "train.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\n"
        + "".join(
            f"p.add_argument('--{name}')\n"
            for name in ("model_name_or_path", "max_steps", "per_device_train_batch_size", "max_length")
        )
        + "args = p.parse_args()\nprint('loss=1')\n"
    )
    facts = one_node(memory_mb=1 << 20)
    gpu = DeviceGroup(vendor="nvidia", type="gpu", model="NVIDIA L40S", count=1, memory_mib=46068)
    node = facts.nodes[0].model_copy(update={"devices": (gpu,)})
    world.cluster._facts = facts.model_copy(update={"nodes": (node,)})
    world.prices = Prices(usd_per_gpu_hour=1.0)
    return world


def driven(world: World, record: RunRecord) -> Ask | RunRecord:
    """To its end, with a yes to what is asked: the fields that the script has no option for."""
    result = world.drive(record)
    return world.drive(record, Reply(approved=True)) if isinstance(result, Ask) else result


def stored(world: World) -> tuple[Measurement, ...]:
    return world.store.measurements(model="Qwen/Qwen2.5-7B", family="decoder", method="lora")


def test_first_steps_teach_the_next_run(tmp_path: Path) -> None:
    files = {SMOKE_PATH: json.dumps(STEPS).encode()}
    world = world_of(tmp_path, lambda job: Script(files=files, stdout=b"loss=1\nloss=0.5\n"))
    first = world.start(sets=sets(), budget_usd=100.0)
    assert ended(driven(world, first)).status is RunStatus.SUCCEEDED
    (seen,) = stored(world)
    assert (seen.kind, seen.run_id, seen.peak_gib, seen.step_s) == ("first_steps", first.id, 21.5, 2.0)
    assert (seen.micro_batch, seen.gpu, seen.method) == (2, "NVIDIA L40S", "lora")
    assert seen.predicted_gib
    record = world.start(sets=sets(), budget_usd=100.0, dry_run=True)
    ended(driven(world, record))
    known = world.state(record).estimate
    assert round(known.gpu_memory_gib, 2) == 21.5
    assert any(f"measured: run {first.id}" in a for a in known.assumptions)
    larger = world.start(sets=sets(**{"training.micro_batch": 4}), budget_usd=100.0, dry_run=True)
    ended(world.drive(larger))
    assert any("at micro batch 2 (this plan: 4)" in a for a in world.state(larger).estimate.assumptions)


def test_an_out_of_memory_teaches_the_next_run_a_lower_bound(tmp_path: Path) -> None:
    world = world_of(tmp_path, first_then(Script(exit_code=1, stderr=OOM), Script(stdout=b"loss=1\n")))
    record = world.start(sets=sets(**{"smoke.on": False}), budget_usd=100.0)
    driven(world, record)
    kinds = {m.kind: m for m in stored(world)}
    assert kinds["out_of_memory"].least_gib is not None
    assert kinds["out_of_memory"].least_gib >= 44.40 - 1.00 + 2.00
    again = world.start(sets=sets(**{"smoke.on": False}), budget_usd=100.0, dry_run=True)
    world.drive(again)
    assert world.state(again).estimate.gpu_memory_gib > 45


def test_the_speed_and_the_peak_of_a_whole_training_are_kept(tmp_path: Path) -> None:
    log = b"{'loss': 0.5}\n{'train_steps_per_second': 0.25, 'peak_gpu_mem_gb': 30.0, 'loss': 0.4}\n"
    world = world_of(tmp_path, lambda job: Script(stdout=log))
    record = world.start(sets=sets(**{"smoke.on": False}), budget_usd=100.0)
    assert ended(driven(world, record)).status is RunStatus.SUCCEEDED
    (seen,) = stored(world)
    assert (seen.kind, seen.step_s) == ("run", 4.0)
    assert seen.peak_gib is not None
    assert round(seen.peak_gib, 1) == 27.9


def test_what_the_device_was_seen_to_hold_goes_before_what_was_logged(tmp_path: Path) -> None:
    card = {"n": 0, "total_mb": 48305, "busy": 90}
    lines = [
        {"kind": "begin", "gpus_from": "nvml"},
        {"at": 1.0, "up": 1.0, "gpus": [{**card, "used_mb": 500}]},
        {"at": 3.0, "up": 3.0, "phase": "training", "gpus": [{**card, "used_mb": 35000}], "host_mb": 900},
        {"kind": "end", "at": 4.0},
    ]
    files = {SAMPLES_PATH: b"".join(json.dumps(line).encode() + b"\n" for line in lines)}
    log = b"{'train_steps_per_second': 0.25, 'peak_gpu_mem_gb': 30.0, 'loss': 0.4}\n"
    world = world_of(tmp_path, lambda job: Script(files=files, stdout=log))
    record = world.start(sets=sets(**{"smoke.on": False}), budget_usd=100.0)
    assert ended(driven(world, record)).status is RunStatus.SUCCEEDED
    (seen,) = stored(world)
    assert (seen.kind, round(seen.peak_gib or 0, 1)) == ("run", 32.6)
    (use,) = world.state(record).attempts[-1].uses
    assert (use.host_peak_mb, use.ended) == (900, True)


def test_names_that_tell_no_peak_of_a_gpu_are_none() -> None:
    assert _peak_gib("max_gpu_memory_allocated_mib", 1024.0) == 1.0
    for name in ("peak_memory_gb", "gpu_mem_gb", "peak_gpu_mem", "max_gpu_temp_gb_x", "max_lr"):
        assert _peak_gib(name, 3.0) is None


@given(st.text(max_size=60), st.floats(allow_nan=False))
def test_any_name_is_read(name: str, value: float) -> None:
    found = _peak_gib(name, value)
    assert found is None or 0 < found < 1000
