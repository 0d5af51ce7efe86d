"""The cluster, its images, its rules and its secrets: what can't be placed, fetched or allowed."""

from bench.scenario import Expected, Scenario
from bench.scenarios.machines import docker, inventory, node
from bench.scenarios.trainers import line, reviews, rings
from caravan.values.failure import FailureClass as F

IMAGES = docker("local/python:3.11", "local/busybox:1")
FETCHED = """
rows = list(csv.DictReader(open(pathlib.Path(args.extra) / "more.csv", newline="")))
print(len(rows), "rows more", flush=True)
"""
EXTRA = 'parser.add_argument("--extra", default="extra", help="folder with more rows")'

SCENARIOS = (
    Scenario(
        "datacenter-that-is-not-there",
        F.CLUSTER_TARGET_MISMATCH,
        Expected.ESCALATED,
        line(),
        inventory(),
        sets=('datacenters=["eu-west"]',),
        also=(F.PLACEMENT_CONSTRAINT_FILTERED,),
    ),
    Scenario(
        "constraint-that-no-node-meets",
        F.PLACEMENT_CONSTRAINT_FILTERED,
        Expected.ESCALATED,
        rings(),
        inventory(node("left"), node("right")),
        sets=('constraints=[{"attribute": "${attr.cpu.arch}", "operator": "=", "value": "arm64"}]',),
    ),
    Scenario(
        "pool-without-nodes",
        F.PLACEMENT_CONSTRAINT_FILTERED,
        Expected.ESCALATED,
        reviews(),
        inventory(),
        sets=("node_pool=training",),
        also=(F.CLUSTER_TARGET_MISMATCH, F.NOMAD_OBJECT_NOT_FOUND, F.JOBSPEC_INVALID),
    ),
    Scenario(
        "more-memory-than-any-node",
        F.PLACEMENT_RESOURCES_EXHAUSTED,
        Expected.ESCALATED,
        line(),
        inventory(node("small", memory_mb=512), node("smaller", memory_mb=256)),
        sets=("resources.memory_mb=9000",),
    ),
    Scenario(
        "gpu-where-there-is-none",
        F.PLACEMENT_GPU_UNAVAILABLE,
        Expected.ESCALATED,
        rings(),
        inventory(),
        sets=("resources.gpus=1",),
    ),
    Scenario(
        "driver-that-no-node-has",
        F.DRIVER_UNAVAILABLE,
        Expected.ESCALATED,
        line(),
        inventory(),
        sets=("driver=docker", "image=local/python:3.11"),
    ),
    Scenario(
        "volume-that-no-node-has",
        F.VOLUME_UNAVAILABLE,
        Expected.ESCALATED,
        reviews(),
        inventory(),
        sets=('mounts=[{"kind": "host", "source": "corpora", "destination": "/data", "read_only": true}]',),
        also=(F.PLACEMENT_CONSTRAINT_FILTERED,),
    ),
    Scenario(
        "image-that-no-node-has",
        F.IMAGE_NOT_FOUND,
        Expected.ESCALATED,
        line(),
        inventory(node("box", drivers=IMAGES)),
        sets=("image=registry.example/vision/train:7",),
    ),
    Scenario(
        "image-of-a-mistyped-tag",
        F.IMAGE_NOT_FOUND,
        Expected.ESCALATED,
        reviews(),
        inventory(node("box", drivers=IMAGES)),
        sets=("image=local/python:3.111",),
    ),
    Scenario(
        "image-without-the-program",
        F.ENTRYPOINT_NOT_FOUND,
        Expected.ESCALATED,
        line(),
        inventory(node("box", drivers=IMAGES)),
        sets=("image=local/python:3.11", 'docker.entrypoint=["/opt/site/enter"]'),
    ),
    Scenario(
        "artifact-that-is-gone",
        F.ARTIFACT_DOWNLOAD_FAILED,
        Expected.ESCALATED,
        line("python train.py --extra ../local/extra", OPTIONS=EXTRA, START=FETCHED),
        inventory(),
        sets=('artifacts=[{"source": "@SERVER@/missing/more.csv", "destination": "local/extra"}]',),
    ),
    Scenario(
        "artifact-that-is-not-for-everyone",
        F.ARTIFACT_DOWNLOAD_FAILED,
        Expected.ESCALATED,
        line("python train.py --extra ../local/extra", OPTIONS=EXTRA, START=FETCHED),
        inventory(),
        sets=('artifacts=[{"source": "@SERVER@/secret/more.csv", "destination": "local/extra"}]',),
    ),
    Scenario(
        "job-that-does-not-validate",
        F.JOBSPEC_INVALID,
        Expected.ESCALATED,
        line(),
        inventory(),
        sets=("driver=podmann",),
        also=(F.DRIVER_UNAVAILABLE,),
    ),
    Scenario(
        "policy-of-the-site",
        F.POLICY_DENIED,
        Expected.ESCALATED,
        {**line(), "../work/policy.toml": "[limits]\nmemory_mb = 1024\n"},
        inventory(),
        sets=("resources.memory_mb=3000",),
        environment={"CARAVAN_POLICY": "@WORK@/policy.toml"},
    ),
    Scenario(
        "secret-that-nobody-gives",
        F.TEMPLATE_SECRET_UNAVAILABLE,
        Expected.ESCALATED,
        reviews(IMPORTS="import os", START='print("as", len(os.environ["LABELS_TOKEN"]), flush=True)'),
        inventory(),
        sets=('secrets=["LABELS_TOKEN"]',),
        asks="LABELS_TOKEN",
    ),
)
