"""Hypothesis strategies for job specifications: everything that a JobSpec can hold and HCL can say."""

import string
import unicodedata

from hypothesis import strategies as st

from caravan.values.job import (
    Affinity,
    ArtifactBlock,
    DeviceRequest,
    HealthCheck,
    JobSpec,
    Lifecycle,
    LogPolicy,
    NetworkPort,
    ReschedulePolicy,
    RestartPolicy,
    ServiceBlock,
    SpreadBlock,
    Task,
    TaskGroup,
    TaskResources,
    TemplateBlock,
    VaultBlock,
    VolumeMount,
    VolumeRequest,
)
from caravan.values.plan import Constraint

NASTY = (
    "${", "%{", "$${", "%%{", "$", "%", "{", "}", "{{", "}}", '"', "\\", "\n", "\r\n", "\t", "EOT", "EOT\n", "\nEOT\n",
    "<<EOT\n", "#", "//", "/*", "'", "`", "~", " ", "  \n", "${attr.cpu.arch}", "${NOMAD_ALLOC_DIR}", '${env["HOME"]}',
    "${meta.rack}", "${node.unique.name}", "${device.attr.memory}", "${HOME:-/root}", "\x00", "\x7f", "\u2028",
    "\u00a0", "\ufeff", "é", "学習", "👩\u200d🚀", "a", "Z9_-",
)  # fmt: skip


def composed(text: str) -> str:
    """In normal form C, the only one that HCL keeps."""
    return unicodedata.normalize("NFC", text)


TEXT = st.one_of(
    st.lists(st.sampled_from(NASTY), max_size=8).map("".join),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
).map(composed)
SCRIPT = st.lists(st.one_of(TEXT, st.sampled_from(("set -e", "  EOT", "EOT2", "", "\ttab"))), max_size=6).map(
    lambda lines: composed("".join(f"{line}\n" for line in lines))
)
NAME = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=8).map(lambda s: f"k{s}")
SECONDS = st.integers(0, 10**6)
SMALL = st.integers(1, 10**6)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
        TEXT,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
CONSTRAINTS = st.lists(
    st.builds(Constraint, attribute=TEXT, operator=st.sampled_from(("=", "!=", ">=", "semver", "regexp")), value=TEXT),
    max_size=2,
).map(tuple)
AFFINITIES = st.lists(st.builds(Affinity, attribute=TEXT, value=TEXT, weight=st.integers(-100, 100)), max_size=2).map(
    tuple
)
SPREADS = st.lists(st.builds(SpreadBlock, attribute=TEXT, weight=st.integers(0, 100)), max_size=2).map(tuple)
RESOURCES = st.builds(
    TaskResources,
    cpu=st.none() | SMALL,
    cores=st.none() | st.integers(1, 64),
    memory=st.integers(10, 10**6),
    memory_max=st.none() | SMALL,
    devices=st.lists(
        st.builds(
            DeviceRequest,
            name=TEXT,
            count=st.integers(1, 16),
            constraints=CONSTRAINTS,
            affinities=AFFINITIES,
        ),
        max_size=2,
    ).map(tuple),
)
TASKS = st.builds(
    Task,
    name=TEXT,
    driver=TEXT,
    config=st.dictionaries(NAME, JSON, max_size=4),
    env=st.dictionaries(st.one_of(NAME, TEXT), TEXT, max_size=3),
    user=st.none() | TEXT,
    kill_timeout_s=SECONDS,
    kill_signal=st.none() | TEXT,
    lifecycle=st.none()
    | st.builds(Lifecycle, hook=st.sampled_from(("prestart", "poststart", "poststop")), sidecar=st.booleans()),
    leader=st.booleans(),
    identity=st.booleans(),
    resources=RESOURCES,
    constraints=CONSTRAINTS,
    templates=st.lists(
        st.builds(
            TemplateBlock,
            destination=TEXT,
            data=st.one_of(TEXT, SCRIPT),
            env=st.booleans(),
            perms=TEXT,
            left_delimiter=TEXT,
            right_delimiter=TEXT,
            error_on_missing_key=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
    vault=st.none()
    | st.builds(
        VaultBlock,
        role=st.none() | TEXT,
        policies=st.lists(TEXT, max_size=2).map(tuple),
        env=st.booleans(),
        change_mode=st.sampled_from(("noop", "restart", "signal")),
    ),
    artifacts=st.lists(
        st.builds(
            ArtifactBlock,
            source=TEXT,
            destination=TEXT,
            mode=st.sampled_from(("any", "file", "dir")),
            options=st.dictionaries(NAME, TEXT, max_size=2),
        ),
        max_size=2,
    ).map(tuple),
    volume_mounts=st.lists(
        st.builds(VolumeMount, volume=TEXT, destination=TEXT, read_only=st.booleans()), max_size=2
    ).map(tuple),
    logs=st.builds(LogPolicy, max_files=st.integers(1, 99), max_file_size_mb=st.integers(1, 99)),
)
CHECKS = st.builds(
    HealthCheck,
    name=TEXT.filter(bool),
    type=st.sampled_from(("http", "tcp")),
    path=TEXT,
    interval_s=st.integers(1, 999),
    timeout_s=st.integers(1, 999),
    restart_limit=st.integers(0, 9),
    grace_s=SECONDS,
)
GROUPS = st.builds(
    TaskGroup,
    name=TEXT,
    count=st.integers(1, 99),
    tasks=st.lists(TASKS, max_size=2).map(tuple),
    constraints=CONSTRAINTS,
    affinities=AFFINITIES,
    spreads=SPREADS,
    services=st.lists(
        st.builds(
            ServiceBlock,
            name=TEXT.filter(bool),
            port=TEXT,
            tags=st.lists(TEXT, max_size=2).map(tuple),
            provider=st.sampled_from(("nomad", "consul")),
            checks=st.lists(CHECKS, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    sticky_disk=st.booleans(),
    healthy_deadline_s=st.none() | SECONDS.filter(bool),
    ephemeral_disk_mb=st.integers(0, 10**6),
    volumes=st.lists(
        st.builds(
            VolumeRequest, name=TEXT, type=st.sampled_from(("host", "csi")), source=TEXT, read_only=st.booleans()
        ),
        max_size=3,
        unique_by=lambda v: v.name,
    ).map(tuple),
    ports=st.lists(st.builds(NetworkPort, label=TEXT, static=st.none() | st.integers(1, 65535)), max_size=3).map(tuple),
    restart=st.builds(
        RestartPolicy,
        attempts=st.integers(0, 9),
        interval_s=SECONDS,
        delay_s=SECONDS,
        mode=st.sampled_from(("fail", "delay")),
    ),
    reschedule=st.builds(ReschedulePolicy, attempts=st.integers(0, 9), unlimited=st.booleans()),
    max_run_s=st.none() | SECONDS,
    progress_deadline_s=st.none() | st.integers(60, 10**6),
)
SPECS = st.builds(
    JobSpec,
    id=TEXT,
    type=st.sampled_from(("batch", "service")),
    namespace=st.none() | TEXT,
    region=st.none() | TEXT,
    node_pool=st.none() | TEXT,
    datacenters=st.lists(TEXT, max_size=3).map(tuple),
    priority=st.integers(1, 100),
    meta=st.dictionaries(st.one_of(NAME, TEXT), TEXT, max_size=3),
    constraints=CONSTRAINTS,
    affinities=AFFINITIES,
    spreads=SPREADS,
    groups=st.lists(GROUPS, max_size=2).map(tuple),
)
