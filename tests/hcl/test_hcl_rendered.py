"""What a job file looks like to the platform engineer who reads it."""

import pytest

from caravan import TEMPLATES
from caravan.hcl import HclError, parse_hcl, render_hcl
from caravan.hcl.escape import block_text, quoted
from caravan.values.job import (
    ArtifactBlock,
    DeviceRequest,
    JobSpec,
    RestartPolicy,
    Task,
    TaskGroup,
    TaskResources,
    TemplateBlock,
    VolumeRequest,
)
from caravan.values.plan import Constraint

GPU = DeviceRequest(
    name="nvidia/gpu",
    count=2,
    constraints=(Constraint(attribute="${device.attr.memory}", operator=">=", value="40 GiB"),),
)


def job(**changes: object) -> JobSpec:
    task = {"name": "train", "driver": "docker", "resources": TaskResources(cpu=500, memory=2048)}
    group = {k: changes.pop(k) for k in ("max_run_s", "volumes", "restart") if k in changes}
    task.update({k: changes.pop(k) for k in ("config", "env", "resources", "templates", "artifacts") if k in changes})
    tasks = (Task.model_validate(task),)
    return JobSpec.model_validate(
        {"id": "run-1", **changes, "groups": (TaskGroup.model_validate({"name": "train", "tasks": tasks, **group}),)}
    )


def rendered(**changes: object) -> str:
    return render_hcl(job(**changes), templates=TEMPLATES)


def test_a_gpu_is_a_device_block() -> None:
    text = rendered(resources=TaskResources(cpu=500, memory=2048, memory_max=4096, devices=(GPU,)))
    assert (
        """\
      resources {
        cpu        = 500
        memory     = 2048
        memory_max = 4096

        device "nvidia/gpu" {
          count = 2

          constraint {
            attribute = "${device.attr.memory}"
            operator  = ">="
            value     = "40 GiB"
          }
        }
      }
"""
        in text
    )


def test_no_retries_are_written_out() -> None:
    text = rendered()
    assert "attempts = 0" in text
    assert "attempts  = 0\n      unlimited = false" in text
    assert "attempts = 3" in rendered(restart=RestartPolicy(attempts=3))


def test_a_time_limit_only_where_there_is_one() -> None:
    assert "max_run_duration" not in rendered()
    text = rendered(max_run_s=90)
    assert 'max_run_duration = "90s"' in text
    assert parse_hcl(text)["TaskGroups"][0]["MaxRunDuration"] == 90 * 10**9


def test_a_script_stays_readable() -> None:
    script = '#!/bin/sh\nset -eu\nexec python3 train.py --out "${NOMAD_ALLOC_DIR}/data" {{ x }}\n'
    text = rendered(templates=(TemplateBlock(destination="local/launch.sh", data=script, left_delimiter="[["),))
    doubled = script.replace("${", "$${")
    assert f"<<EOT\n{doubled}EOT\n" in text
    assert parse_hcl(text)["TaskGroups"][0]["Tasks"][0]["Templates"][0]["EmbeddedTmpl"] == script


def test_templates_are_not_rendered_again_while_it_trains() -> None:
    assert 'change_mode     = "noop"' in rendered(templates=(TemplateBlock(destination="a", data="b"),))


def test_runtime_references_stay_where_nomad_reads_them() -> None:
    text = rendered(env={"OUT": "${NOMAD_ALLOC_DIR}/data", "SHELL_VAR": "${HOME}"}, config={"args": ["${meta.rack}"]})
    assert 'OUT       = "${NOMAD_ALLOC_DIR}/data"' in text
    assert 'SHELL_VAR = "$${HOME}"' in text
    assert 'args = ["${meta.rack}"]' in text


def test_driver_options() -> None:
    mounts = [{"type": "bind", "source": "/a"}, {"type": "bind", "source": "/b"}]
    text = rendered(config={"image": "a:1", "mount": mounts, "labels": {"a b": "c"}, "shm_size": 64})
    assert text.count("mount {") == 2
    config = parse_hcl(text)["TaskGroups"][0]["Tasks"][0]["Config"]
    assert config == {"image": "a:1", "mount": mounts, "labels": {"a b": "c"}, "shm_size": 64}


def test_csi_volumes_say_how_they_are_attached() -> None:
    volume = VolumeRequest(name="v", type="csi", source="models", read_only=False)
    assert 'access_mode     = "single-node-writer"' in rendered(volumes=(volume,))


def test_a_comment_can_t_be_broken_out_of() -> None:
    text = rendered(meta={"caravan_run": 'x\njob "evil" {}', "caravan_attempt": "2"})
    assert text.splitlines()[0] == '# Written by Caravan for run "x\\njob \\"evil\\" {}", attempt "2".'
    assert parse_hcl(text)["ID"] == "run-1"


@pytest.mark.parametrize(
    "changes", [{"config": {"a b": 1}}, {"artifacts": (ArtifactBlock(source="x", options={"": "y"}),)}]
)
def test_what_hcl_can_t_say_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(HclError, match="must be a plain name"):
        rendered(**changes)


def test_nothing_is_left_blank_twice() -> None:
    text = rendered(resources=TaskResources(cpu=500, memory=2048, devices=(GPU,)), env={"A": "b"}, meta={"a": "b"})
    assert "\n\n\n" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_heredocs_only_where_nothing_is_lost() -> None:
    assert block_text("one\n") is None
    assert block_text("one\ntwo") is None
    assert block_text("one\r\ntwo\n") is None
    assert block_text("one\n  EOT  \ntwo\n") == "<<EOT2\none\n  EOT  \ntwo\nEOT2"


def test_quoting() -> None:
    assert quoted('a"b\\c\n\x01') == '"a\\"b\\\\c\\n\\u0001"'
    assert quoted("${attr.kernel.name}", runtime=True) == '"${attr.kernel.name}"'
    assert quoted("${attr.kernel.name}") == '"$${attr.kernel.name}"'
    assert quoted("${attr.x}}", runtime=True) == '"$${attr.x}}"'
    assert quoted('${env["A"]}"', runtime=True) == '"${env["A"]}\\""'
