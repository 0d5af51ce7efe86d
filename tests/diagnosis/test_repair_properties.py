"""What holds for every ladder, whatever the failure says: finite, new, valid, heard, and nobody's wish lost unasked."""

import shlex
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.diagnosis.details import NAMES
from caravan.diagnosis.handover import handover, needs_code, words_to_go_on
from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.plainly import can_do, would_do
from caravan.diagnosis.repair import LADDERS, ladder, mendable
from caravan.planning.catalogue import Prices
from caravan.planning.command import unpassed
from caravan.planning.estimate import estimate
from caravan.planning.launchers import launch_words
from caravan.values.estimate import ROOM, Envelope, held_fields, method_of
from caravan.values.failure import ChangePlan, FailureClass, PastCase
from caravan.values.job import ClusterFacts, DriverFacts
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes, plan_diff
from tests.diagnosis.repair_scenes import case, facts, gpu, node, plan

F = FailureClass

TEXTS = (
    "train.py,src/train.py,--learning-rate,--optim,x,data/a.csv,/data/a.csv,yaml,helpers,acme,2.0,python3,./run.sh,a b,"
    "it's; rm -rf x,-rf,img/train:2,,..,trainer.x,29500,12.0,8.6,sm_120,0,-1,1e400,9999999999999999999999,numpy,"
    "torch==2.1,>=4.5,kill_timeout,node.class,cache,linux/arm64,nan,bf16"
)
NAMED = "rate,cpu,capability,gpu,position,interface,fabric,config,corrupt,host,unpack,preempted,column,argument,"
NAMED += "unknown,missing,value,choice,program,script,module,workdir,permission,write,read,nan,scale,blowup,"
WORDS = st.sampled_from(TEXTS.split(","))
DETAILS = st.dictionaries(st.sampled_from(sorted(NAMES)), WORDS | st.text(max_size=12), max_size=6)
LINES = st.lists(
    st.sampled_from(
        [
            "ValueError: Check batch related parameters. train_batch_size is not equal to micro_batch_per_gpu * "
            "gradient_acc_step * world_size 64 != 4 * 1 * 3",
            "--load_best_model_at_end requires the save and eval strategy to match",
            "tokenizers>=0.14,<0.19 is required for a normal functioning of this module, but found tokenizers==0.19.1.",
            "TypeError: SFTTrainer.__init__() got an unexpected keyword argument 'tokenizer'",
            "model type `qwen3` but Transformers does not recognize this architecture",
            "NCCL WARN Bootstrap : no socket interface found",
            "Cuda failure 'peer access is not supported', /dev/shm/nccl-x, NET/IB : no device",
            "RuntimeError: CUDA_HOME is not set, nvcc not found",
            "1.20 GiB is reserved by PyTorch but unallocated.",
            "12%|#  | 30/250 step=30",
        ]
    )
    | st.text(max_size=40),
    max_size=3,
).map(tuple)
KINDS = st.sampled_from(NAMED.split(","))
SIZES = st.none() | st.floats(0, 200).map(str) | st.text(max_size=4)
NODES = st.lists(
    st.builds(
        node,
        st.sampled_from(["n1", "n2", "n3"]),
        st.integers(0, 200_000),
        eligible=st.booleans(),
        disk_mb=st.integers(0, 10_000),
        devices=st.lists(st.sampled_from([gpu("NVIDIA L4", 22.5, 2), gpu("NVIDIA A40", 45, 1), gpu("Own", 80, 4)])).map(
            tuple
        ),
        drivers=st.just({"docker": DriverFacts(images=("img/train:2", "img/other:1")), "raw_exec": DriverFacts()}),
    ),
    max_size=3,
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "resources.memory_mb": st.integers(10, 200_000),
        "resources.memory_max_mb": st.integers(10, 200_000),
        "resources.gpus": st.integers(0, 4),
        "resources.gpu_model": st.sampled_from(["NVIDIA L4", "NVIDIA A40", "H200"]),
        "resources.cores": st.integers(1, 8),
        "training.micro_batch": st.integers(1, 48),
        "training.grad_accum": st.integers(1, 7),
        "training.lr": st.floats(1e-9, 10),
        "training.max_len": st.integers(1, 9000),
        "training.max_grad_norm": st.floats(0.1, 10),
        "training.precision": st.sampled_from(["fp16", "bf16", "fp32"]),
        "training.method": st.sampled_from(["full", "lora", "qlora"]),
        "training.num_workers": st.integers(0, 9),
        "training.options.--optim": st.sampled_from(["AdamW-Torch", "x"]),
        "training.options.--learning-rate": st.just("0.1"),
        "model.id": st.sampled_from(["Qwen/Qwen2.5-7B", "own/model", "Qwen/Qwen2.5-0.5B"]),
        "dataset.path": st.sampled_from(["data/a.csv", "a.csv"]),
        "driver": st.sampled_from(["docker", "raw_exec"]),
        "launch.launcher": st.sampled_from(["python", "cli"]),
        "command": st.sampled_from(
            [["train.py"], ["./run.sh", "x"], ["train.py", "--learning-rate", "1"], ["-m", "a.b"]]
        ),
        "workdir": st.sampled_from([".", "src", "nowhere"]),
        "setup.pip": st.sampled_from([["."], ["PyYAML"]]),
        "setup.python": st.just("python"),
        "exclude_nodes": st.just(["n1"]),
        "training.options.--dataset_name": st.sampled_from(["x", "yaml"]),
        "training.resume_from": st.just("old"),
        "training.optimizer": st.sampled_from(["adamw_torch", "sgd"]),
        "training.grad_checkpointing": st.booleans(),
        "launch.nproc": st.integers(1, 8),
        "launch.nodes": st.integers(1, 3),
        "launch.master_port": st.sampled_from([29500, 65535]),
        "launch.rdzv_endpoint": st.just("h:1"),
        "launch.args": st.just(["--config_file", "a.yaml"]),
        "env.NCCL_DEBUG": st.just("INFO"),
        "env.MASTER_ADDR": st.just("h"),
        "env.HF_HOME": st.sampled_from(["/cache/hf", "hf"]),
        "shm_mb": st.integers(1, 20_000),
        "datacenters": st.just(["dc9"]),
        "node_pool": st.sampled_from(["other", "default"]),
        "container_name": st.just("c"),
        "user": st.just("me"),
        "job_type": st.just("service"),
        "ports": st.just([{"label": "p", "static": 29500}]),
        "constraints": st.just([{"attribute": "${node.class}", "value": "x"}]),
        "mounts": st.just([{"kind": "host", "source": "cache", "destination": "/cache", "read_only": False}]),
        "artifacts": st.just([{"source": "https://x/y.zip"}]),
    },
)
FILES = st.lists(
    st.sampled_from(["train.py", "src/train.py", "data/a.csv", "x/a.csv", "lib/helpers.py", "run.sh", "a/b.py"]),
    unique=True,
    max_size=5,
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    authors = st.sampled_from([Author.DEFAULT, Author.USER, Author.REPOSITORY, Author.ESTIMATE, Author.ANSWER])
    start = plan()
    for path, value in draw(VALUES).items():
        start = apply_changes(start, [PlanChange(path=path, value=value, by=draw(authors))])
    details = {**draw(DETAILS), "kind": draw(KINDS), "style": draw(st.sampled_from(["", "hydra", "hf"]))}
    details |= {k: v for k in ("total_gib", "free_gib", "tried_gib") if (v := draw(SIZES)) is not None}
    failure = draw(st.sampled_from([*LADDERS, F.UNKNOWN, F.SHM_TOO_SMALL]))
    where: ClusterFacts = facts(*draw(NODES))
    past = draw(st.lists(past_cases(failure), max_size=2))
    name = draw(st.sampled_from(["", "n1", "n9"]))
    more: dict[str, Any] = {"node_name": name, "fingerprint": "f", "lines": draw(LINES)}
    return case(failure, start, where, details=details, files=draw(FILES), cases=past, **more)


@st.composite
def past_cases(draw: st.DrawFn, failure: FailureClass) -> PastCase:
    values = draw(VALUES)
    changes = tuple(PlanChange(path=p, value=v, by=Author.REPAIR) for p, v in values.items())
    return PastCase(
        id="1",
        failure=failure,
        fingerprint=draw(st.sampled_from(["f", "g"])),
        text="t",
        same=("code_digest",) if draw(st.booleans()) else (),
        before=draw(VALUES) if draw(st.booleans()) else {},
        changes=changes,
        worked=draw(st.sampled_from([True, False, None])),
    )


def after(built: Case, repair: ChangePlan) -> TrainingPlan:
    return apply_changes(built.plan, repair.changes)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_every_rung_is_new_valid_and_heard(built: Case) -> None:
    found = ladder(built)
    assert (handover(built), words_to_go_on(built), needs_code(built), can_do(built.diagnosis)) is not None
    assert all(would_do(built.diagnosis)) or built.diagnosis.escalate
    assert found == () or mendable(built.diagnosis.failure) or any(c.worked for c in built.cases)
    digests = [after(built, r).digest() for r in found if isinstance(r, ChangePlan)]
    assert len(set(digests)) == len(digests)
    assert built.plan.digest() not in digests
    for repair in found:
        if not isinstance(repair, ChangePlan):
            continue
        assert repair.why
        assert all(change.by is Author.REPAIR for change in repair.changes)
        mended = after(built, repair)
        told = {c.path for c in repair.changes if c.path.startswith("training.") and c.value is not None}
        assert not told & set(unpassed(mended))
        if told:
            assert launch_words(mended) != launch_words(built.plan)
        assert mended.resources.memory_mb <= max(
            [n.memory_mb for n in built.facts.nodes] + [built.plan.resources.memory_mb]
        )


@settings(max_examples=20, deadline=None)
@given(cases())
def test_taking_rung_after_rung_ends(built: Case) -> None:
    seen = {built.plan.digest()}
    for _ in range(80):
        changes = [r for r in ladder(built) if isinstance(r, ChangePlan)]
        fresh = next((m for r in changes if (m := after(built, r)).digest() not in seen), None)
        if fresh is None:
            return
        seen.add(fresh.digest())
        where = built.facts
        files = built.looks.find
        built = case(
            built.diagnosis.failure, fresh, where, details=built.diagnosis.details, cases=built.cases, fingerprint="f"
        )
        built = Case(
            built.diagnosis, built.plan, built.profile, where, built.cases, built.outlook, type(built.looks)(files)
        )
    raise AssertionError("the ladder has no end")


@settings(max_examples=60, deadline=None)
@given(cases())
def test_nothing_that_a_person_set_is_changed_without_an_objection(built: Case) -> None:
    start = built.plan
    cost = estimate(start, built.facts, prices=Prices()).cost_usd
    granted = Envelope(
        cost_usd=1e6,
        unknown_cost=cost is None,
        methods=tuple(filter(None, [method_of(start)])),
        images=(start.image or "",),
        mounts=start.mounts,
        packages=start.setup.pip,
        datacenters=start.datacenters,
        held=held_fields(start, None),
        unheard=unpassed(start),
    )
    assert granted.objections(start, 0.0) == ()
    for repair in ladder(built):
        if not isinstance(repair, ChangePlan):
            continue
        mended = after(built, repair)
        objections = " ".join(granted.objections(mended, 0.0, trusted=mended.setup.pip))
        for path in plan_diff(start, mended):
            said = start.set_by(path) in (Author.USER, Author.ANSWER)
            if said and path not in ROOM and path not in ("setup.pip", "setup.cmd", "exclude_nodes", "mounts"):
                assert path in objections, (path, repair)
            only_dropped = path == "mounts" and set(mended.mounts) <= set(start.mounts)  # a cache that nobody asked for
            if path in ("image", "mounts", "training.max_len", "model.id") and not only_dropped:
                assert objections
            if said and path == "resources.memory_mb" and mended.resources.memory_mb < start.resources.memory_mb:
                assert path in objections
        for command in mended.setup.cmd:
            assert len(shlex.split(command)) == 4  # mkdir, -p, --, and one path
