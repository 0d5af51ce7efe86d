"""What a job implies, is refused for and warned of, and which job may follow which."""

from typing import Any

import pytest

from caravan.cluster.local import constraints
from caravan.cluster.local.canonical import canonical_job
from caravan.cluster.local.cautions import warnings_of
from caravan.cluster.local.implied import with_implied
from caravan.cluster.local.validation import errors_of, transition
from caravan.hcl import parse_hcl

HCL = """job "a" {{
  type = "batch"
  {job}
  group "g" {{
    {group}
    task "t" {{
      driver = "raw_exec"
      {task}
    }}
  }}
}}
"""


def read(job: str = "", group: str = "", task: str = "") -> dict[str, Any]:
    return with_implied(canonical_job(parse_hcl(HCL.format(job=job, group=group, task=task))))


def refused(**parts: str) -> list[str]:
    found = errors_of(read(**parts), namespaces=["default"], pools=["default"])
    return [line.strip("*\t ") for text in found for line in text.splitlines() if line and "occurred:" not in line]


def implied(**parts: str) -> list[str]:
    group = read(**parts)["TaskGroups"][0]
    rules = [*(group["Constraints"] or []), *(group["Tasks"][0]["Constraints"] or [])]
    return [" ".join((r["LTarget"], r["Operand"], r["RTarget"])) for r in rules]


def test_what_a_group_uses_is_asked_of_its_node() -> None:
    consul = "${attr.consul.version} semver >= 1.8.0"
    assert implied() == []
    assert implied(group='service {\nname = "s"\n}') == [consul]
    assert implied(task='service {\nname = "s"\n}') == [consul]
    assert implied(task='kill_signal = "SIGUSR1"') == ["${attr.os.signals} set_contains SIGUSR1"]
    template = 'template {\ndata = "x"\ndestination = "x"\nchange_mode = "signal"\nchange_signal = "sighup"\n}'
    assert implied(task=f'kill_signal = "SIGTERM"\n{template}') == ["${attr.os.signals} set_contains SIGHUP,SIGTERM"]
    assert implied(group='service {\nname = "s"\nprovider = "nomad"\n}') == ["${attr.nomad.service_discovery} = true"]
    assert implied(group='network {\nmode = "bridge"\n}')[0] == "${attr.plugins.cni.version.bridge} semver >= 0.4.0"


def test_one_that_is_stated_is_not_added() -> None:
    stated = 'constraint {\nattribute = "${attr.consul.version}"\noperator = "is_set"\n}\nservice {\nname = "s"\n}'
    assert implied(group=stated) == ["${attr.consul.version} is_set "]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ({"task": "vault {\n}"}, 'Vault "default" not enabled but used in the job'),
        ({"job": "priority = 101"}, "job priority must be between [1, 100]"),
        ({"job": 'multiregion {\nregion "a" {\n}\n}'}, "Multiregion jobs are unlicensed."),
        ({"task": 'action "a b" {\ncommand = "x"\n}'}, "invalid name 'a b'"),
        ({"task": 'identity {\nname = "i"\nchange_mode = "x"\n}'}, "invalid change_mode: x"),
        ({"task": 'secret "s" {\nprovider = "nomad"\n}'}, "secret path cannot be empty"),
        (
            {"group": 'disconnect {\nlost_after = "1m"\nstop_on_client_after = "1m"\n}'},
            "Disconnect cannot be configured with both lost_after and stop_after",
        ),
        ({"task": 'resources {\nnuma {\naffinity = "require"\n}\n}'}, "numa scheduling requires Nomad Enterprise"),
    ],
)
def test_refusals(parts: dict[str, str], wanted: str) -> None:
    assert wanted in refused(**parts)


def test_all_that_is_wrong_is_told_the_cluster_first() -> None:
    found = errors_of(read(job='namespace = "ml"\nnode_pool = "x"\npriority = 500'), namespaces=["default"], pools=[])
    assert found == [
        'job "a" is in nonexistent namespace "ml"',
        'job "a" is in nonexistent node pool "x"',
        "job priority must be between [1, 100]",
    ]


def test_no_priority_is_the_default_one() -> None:
    assert read(job="priority = 0")["Priority"] == 50


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (
            {"group": 'service {\nname = "s"\nprovider = "nomad"\n}'},
            'group "g" defines services, but neither the group nor any of its tasks have shutdown_delay set',
        ),
        ({"group": 'shutdown_delay = "1s"\nservice {\nname = "s"\nprovider = "nomad"\n}'}, ""),
        (
            {"task": 'service {\nname = "s"\nprovider = "nomad"\n}'},
            'task "t" in group "g" defines services, but has no shutdown_delay set',
        ),
        (
            {"group": 'service {\nname = "s"\ntask = "t"\nprovider = "nomad"\n}'},
            'group "g" references task "t" in a service definition, but the task has no shutdown_delay set',
        ),
        ({"task": 'identity {\nname = "i"\naud = ["x"]\nttl = "1h"\n}'}, ""),
    ],
)
def test_warnings(parts: dict[str, str], wanted: str) -> None:
    assert warnings_of(read(**parts)) == (f"1 warning:\n\n* {wanted}" if wanted else "")


def test_an_identity_without_care_is_warned_of() -> None:
    told = warnings_of(read(task='identity {\nname = "i"\nenv = true\n}'))
    for words in ("without an audience are insecure", "without an expiration are insecure", "may result in task not"):
        assert f"Identity[i] {'identities ' if 'insecure' in words else ''}" in told
        assert words in told


@pytest.mark.parametrize(
    ("operator", "left", "right", "good"),
    [
        ("=", "1.0", "1", False),  # texts, on a node
        ("<", "9", "10", True),
        ("<", "9.5", "10", True),
        ("<", "9 GiB", "10 GiB", False),  # letters
        ("version", "2.0.6-dev", ">= 1.0", False),
        ("version", "2.0.6-dev", ">= 2.0.6-beta", True),
        ("version", "20.10.24", ">= 20, < 21", True),
        ("semver", "2.0.6-dev", ">= 1.0.0", True),
        ("semver", "2.0.6-dev", ">= 2.0.6", False),
    ],
)
def test_a_node_is_compared_by_numbers_and_letters(operator: str, left: str, right: str, good: bool) -> None:
    rule = {"LTarget": "${attr.a}", "Operand": operator, "RTarget": right}
    assert constraints.holds(rule, {"attr.a": left}) is good


def test_what_a_failure_says_of_a_constraint() -> None:
    assert constraints.describe({"LTarget": "${attr.a}", "Operand": "is_set"}) == "${attr.a} is_set "
    assert constraints.describe({"LTarget": "${attr.a}", "RTarget": "x"}) == "${attr.a} = x"


def test_which_job_may_follow_which() -> None:
    one = read() | {"JobModifyIndex": 7}
    pattern = one | {"ParameterizedJob": {"Payload": "optional"}}
    assert transition(None, one, None) == transition(one, one, None) == transition(one, one, 7) == ""
    assert transition(None, one, 0) == ""
    assert transition(one, one, 0) == "Enforcing job modify index 0: job already exists"
    assert transition(None, one, 3) == "Enforcing job modify index 3: job does not exist"
    assert transition(one, one, 3).endswith("job exists with conflicting job modify index: 7")
    assert transition(one, one | {"Type": "service"}, None) == 'cannot update job from type "batch" to "service"'
    assert transition(one, pattern, None) == "cannot update non-parameterized job to being parameterized"
    assert transition(pattern, one, None) == "cannot update parameterized job to being non-parameterized"
    assert transition(None, one | {"Dispatched": True}, None) == "job can't be submitted with 'Dispatched' set"
