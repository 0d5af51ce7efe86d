"""What of the run's values a model is shown: small, and only what a step can use. Never a dump of all that is known."""

import json
from collections.abc import Sequence
from typing import Final

from caravan.values.base import Json
from caravan.values.failure import Diagnosis, Evidence, PastCase, Repair
from caravan.values.job import ClusterFacts
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile

_OPTIONS: Final = 120
_LINES: Final = 4
_NODES: Final = 40
_CASES: Final = 5
_PROFILE: Final = (
    *("is_training_repo", "entry_point", "launcher", "launch_command", "launch_cwd", "prep_commands", "framework"),
    *("libraries", "method", "base_model", "dataset", "config_files", "dependency_files", "python_requires", "docker"),
    *("num_gpus", "distributed", "cli_style", "metrics_logged", "key_hyperparameters", "confidence", "notes"),
)


def shown(value: Json) -> str:
    """JSON with a line for each item of the outermost level or two: cut at a line it is still readable."""
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def profile_view(profile: RepoProfile) -> str:
    """What was found, the parser's options, where it was read, other ways in, hazards."""
    plain = profile.model_dump(mode="json", include={*_PROFILE})
    plain["options"] = [f"{o.flag} = {o.default!r} {o.help[:60]}".strip() for o in profile.options[:_OPTIONS]]
    plain["evidence"] = {k: [e.text_of() for e in v[:_LINES]] for k, v in profile.evidence.items()}
    plain["candidates"] = [f"{c.entry_point} ({c.launcher.value}, {c.score:.2f})" for c in profile.candidates[:8]]
    plain["hazards"] = [h.text for h in profile.hazards]
    plain["config_values"] = [f"{v.file}:{v.line}: {v.key} = {v.value!r}" for v in profile.config_values[:60]]
    return shown({k: v for k, v in plain.items() if v not in (None, "", [], {})})


def plan_view(plan: TrainingPlan) -> str:
    """The fields that say something, and who set each."""
    plain = plan.model_dump(mode="json", exclude={"provenance"}, exclude_defaults=True)
    by = {path: origin.by.value for path, origin in plan.provenance.items()}
    return shown({**plain, "set by": by})


def facts_view(facts: ClusterFacts) -> str:
    """The nodes that take jobs: what each has. Addresses, attributes and metadata stay here."""
    nodes = [
        {
            "name": n.name,
            "datacenter": n.datacenter,
            "node_pool": n.node_pool,
            "cpu_mhz": n.cpu_mhz,
            "cores": n.cores,
            "memory_mb": n.memory_mb,
            "disk_mb": n.disk_mb,
            "drivers": sorted(n.drivers),
            "gpus": [d.model_dump(mode="json", exclude={"ids"}, exclude_defaults=True) for d in n.devices],
        }
        for n in facts.usable_nodes()[:_NODES]
    ]
    return shown({"kind": facts.kind.value, "version": facts.version, "nodes": nodes})


def cases_view(cases: Sequence[PastCase]) -> str:
    """What memory knows: the cause, what was changed, whether it worked."""
    return shown(
        [
            {
                "failure": c.failure.value if c.failure else None,
                "text": c.text[:500],
                "changes": [{"path": x.path, "value": x.value} for x in c.changes],
                "worked": c.worked,
                "why": c.why,
            }
            for c in cases[:_CASES]
        ]
    )


def evidence_view(evidence: Evidence) -> str:
    """All of it: it is small and masked already."""
    return shown(evidence.model_dump(mode="json", exclude_defaults=True))


def diagnosis_view(diagnosis: Diagnosis) -> str:
    """The cause with its lines."""
    return shown(diagnosis.model_dump(mode="json", exclude={"patch", "fingerprint"}, exclude_defaults=True))


def tried_view(tried: Sequence[Repair]) -> str:
    """What was tried in this run."""
    return shown([r.model_dump(mode="json", exclude_defaults=True) for r in tried])
