"""Whatever changes are made to a plan, by whoever: no job outside the policy is ever handed to the cluster.

What is outside is told here by a look at the job of our own, which shares nothing with the policy's judgement.
"""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.agent.nodes.commit import generate_spec
from caravan.agent.nodes.deploy import deploy_job
from caravan.agent.nodes.validate import validate_spec
from caravan.agent.state import RunState
from caravan.values.errors import PlanError
from caravan.values.estimate import Estimate
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.policy import Policies, Policy, PolicyFile
from caravan.values.repo import RepoProfile
from tests.agent.test_loop import World

POLICY = Policy.model_validate(
    {
        "jobs": {"drivers": ["docker"], "namespaces": ["default"], "networks": ["bridge"], "node_pools": ["default"]},
        "images": {"allow": ["registry.example/ml/*"]},
        "mounts": {"bind": ["/srv/data"], "host_volumes": ["data"], "csi_volumes": []},
        "secrets": {"nomad": ["nomad/jobs"], "vault": []},
        "sources": {"artifacts": ["https://files.example/*"], "code": ["https://git.example/*"]},
        "limits": {"gpus": 1, "memory_mb": 8192, "priority": 50, "max_run_s": 3600},
    }
)
POLICIES = Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=POLICY),))
PLAN = TrainingPlan.model_validate(
    {
        "goal": "g",
        "command": ["train.py"],
        "driver": "docker",
        "image": "registry.example/ml/base:1",
        "limits": {"max_run_s": 600},
        "resources": {"memory_mb": 1024},
    }
)
PATHS = st.sampled_from(
    ["/srv/data", "/srv/data/a", "/srv", "/srv/data/../x", "/srv/database", "/", "/etc", "x", "../x"]
)
IMAGES = st.sampled_from(
    [
        "registry.example/ml/x",
        "registry.example/ml/x:2",
        " registry.example/ml/x",
        "registry.example/mlx",
        "registry.example/ml/../x",
        "evil.example/registry.example/ml/x",
        "ubuntu",
        "${meta.image}",
        "",
    ]
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "driver": st.sampled_from(["docker", "raw_exec", "exec", "Docker"]),
    "image": IMAGES,
    "namespace": st.sampled_from([None, "default", "other"]),
    "node_pool": st.sampled_from([None, "default", "gpu", "all"]),
    "network_mode": st.sampled_from([None, "bridge", "host", "container:x"]),
    "priority": st.integers(1, 100),
    "resources.memory_mb": st.integers(10, 20_000),
    "resources.memory_max_mb": st.none() | st.integers(10, 20_000),
    "resources.gpus": st.integers(0, 3),
    "limits.max_run_s": st.none() | st.integers(1, 10_000),
    "mounts": st.lists(
        st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["bind", "host", "csi"]),
                "source": PATHS | st.just("data"),
                "destination": st.just("/mnt"),
                "read_only": st.booleans(),
            }
        ),
        max_size=2,
    ),
    "artifacts": st.lists(
        st.fixed_dictionaries(
            {
                "source": st.sampled_from(
                    ["https://files.example/a", "https://files.example@evil.example/a", "http://x.example/a"]
                ),
                "destination": st.sampled_from(["local/", "../x", "/etc", "local/../../x"]),
            }
        ),
        max_size=1,
    ),
    "secrets": st.sampled_from([[], ["HF_TOKEN"]]),
    "secrets_from": st.sampled_from([{}, {"path": "other"}, {"kind": "vault", "path": "secret/data/x"}]),
    "user": st.sampled_from([None, "root"]),
    "docker.runtime": st.sampled_from([None, "nvidia"]),
}
CHANGES = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(lambda path: st.tuples(st.just(path), VALUES[path])), max_size=4
)


def outside(job: Any) -> list[str]:
    """What the job does that the policy above does not allow."""
    found = []
    (group,) = job["TaskGroups"]
    (task,) = group["Tasks"]
    config, need = task["Config"], task["Resources"]
    found += ["driver"] if task["Driver"] != "docker" else []
    found += ["namespace"] if (job["Namespace"] or "default") != "default" else []
    found += ["pool"] if (job["NodePool"] or "default") != "default" else []
    found += ["image"] if not config.get("image", "").strip().startswith("registry.example/ml/") else []
    found += ["image"] if ".." in config.get("image", "") else []
    found += ["network"] if config.get("network_mode") not in (None, "bridge") else []
    found += ["memory"] if max(need["MemoryMB"], need["MemoryMaxMB"] or 0) > 8192 else []
    found += ["gpus"] if sum(d["Count"] for d in need["Devices"] or []) > 1 else []
    found += ["priority"] if job["Priority"] > 50 else []
    found += ["time"] if not group["MaxRunDuration"] or group["MaxRunDuration"] > 3600 * 10**9 else []
    for mount in config.get("mount", []):
        source = mount["source"]
        found += ["mount"] if source.startswith("/") and not (source + "/").startswith("/srv/data/") else []
        found += ["mount"] if ".." in source else []
    found += [v["Source"] for v in (group["Volumes"] or {}).values() if (v["Type"], v["Source"]) != ("host", "data")]
    for artifact in task["Artifacts"] or []:
        found += ["source"] if not artifact["GetterSource"].startswith("https://files.example/") else []
        place = artifact["RelativeDest"]
        found += ["destination"] if place.startswith("/") or ".." in place else []
    for template in task["Templates"] or []:
        text = template["EmbeddedTmpl"]
        found += ["secret"] if "with secret" in text or "nomadVar" in text.replace('nomadVar "nomad/jobs"', "") else []
    return found


@given(CHANGES, st.sampled_from(Author))
@settings(max_examples=40, deadline=None)
def test_no_job_outside_the_policy_is_ever_registered(changes: list[tuple[str, Any]], by: Author) -> None:
    try:
        plan = apply_changes(PLAN, [PlanChange(path=path, value=value, by=by) for path, value in changes])
    except PlanError:
        return
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), gpus=2)
        record = world.start()
        context = world.context(record.id)
        object.__setattr__(context, "policies", POLICIES)
        state = RunState(
            run_id=record.id,
            request=record.request,
            plan=plan,
            profile=RepoProfile(root="r", tree_digest="0", is_training_repo=True),
            estimate=Estimate(),
        )
        for node in (generate_spec, validate_spec):
            state = state.model_copy(update=node(state, context))
        hcl, job = context.folder.load_job(1)
        if job is None:  # validation refused it before the cluster had read it: the last look is taken all the same
            context.folder.save_job(1, hcl, world.cluster.parse(hcl))
        deploy_job(state.model_copy(update={"failure": None}), context)
        assert [outside(job) for job in world.cluster.registrations if outside(job)] == []
        assert changes or len(world.cluster.registrations) == 1  # as it is, the plan is within
