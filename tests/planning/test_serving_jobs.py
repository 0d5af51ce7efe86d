"""The job of a served model: its file, what it asks for, its flags, what policies say of it, and what it costs."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.hcl import mismatches, parse_hcl, render_hcl
from caravan.planning.policy import job_denials
from caravan.planning.serving_job import IMAGE, TEMPLATE, arguments, check_name, key_path, serve_job
from caravan.planning.serving_money import Price, money_denials, refused
from caravan.planning.serving_plan import Decided, Said, decide, read_options
from caravan.values.errors import UsageError
from caravan.values.job import HostVolume
from caravan.values.policy import (
    ImageRules,
    JobRules,
    LimitRules,
    MoneyRules,
    Policies,
    Policy,
    PolicyFile,
    SecretRules,
    Spending,
)
from caravan.values.prices import Prices
from caravan.values.serving import ServeOptions
from caravan.values.target import ClusterProfile
from tests.planning.test_serving_choice import cluster

H100 = "NVIDIA H100 80GB HBM3"


def decided(*sets: str, gpu: str = H100, profile: ClusterProfile | None = None, **said: Any) -> Decided:
    options = read_options(sets)
    return decide(Said(name="caravan-model", options=options, **said), cluster((gpu, 8)), Prices(), profile)


def rendered(found: Decided) -> str:
    return render_hcl(serve_job(found.plan), templates=TEMPLATES, template=TEMPLATE)


def law(**rules: Any) -> Policies:
    return Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=Policy(**rules)),))


def test_the_file_says_what_the_spec_says() -> None:
    spec = serve_job(decided(hub_token=True).plan)
    text = render_hcl(spec, templates=TEMPLATES, template=TEMPLATE)
    assert mismatches(spec, parse_hcl(text)) == ()
    assert "serves a language model until it is stopped" in text
    assert "repairs and deploys again" not in text


@given(
    st.text(max_size=20),
    st.lists(st.text(max_size=12), max_size=3),
    st.dictionaries(st.just("HF_X"), st.text(max_size=9)),
)
def test_no_value_breaks_out_of_the_file(name: str, args: list[str], env: dict[str, str]) -> None:
    plan = decided().plan
    options = plan.options.model_copy(update={"served_name": name, "args": tuple(args)})
    spec = serve_job(plan.model_copy(update={"options": options, "env": env}))
    job = parse_hcl(render_hcl(spec, templates=TEMPLATES, template=TEMPLATE))
    assert mismatches(spec, job) == ()
    assert [g["Name"] for g in job["TaskGroups"]] == ["serve"]


def test_it_is_a_service_that_is_checked_and_comes_back() -> None:
    job = parse_hcl(rendered(decided("start_s=1800", "port=8000")))
    group = job["TaskGroups"][0]
    check = group["Services"][0]["Checks"][0]
    assert (job["Type"], group["Services"][0]["Provider"], check["Path"]) == ("service", "nomad", "/health")
    assert check["CheckRestart"]["Grace"] == 1800 * 10**9
    assert group["Update"]["HealthyDeadline"] == 1800 * 10**9
    assert group["Update"]["ProgressDeadline"] > group["Update"]["HealthyDeadline"]
    assert group["ReschedulePolicy"]["Unlimited"]
    assert group["Networks"][0]["ReservedPorts"][0]["Value"] == 8000
    assert group["MaxRunDuration"] is None


def test_it_asks_for_the_very_gpus_that_were_counted_on() -> None:
    device = parse_hcl(rendered(decided(gpus=2)))["TaskGroups"][0]["Tasks"][0]["Resources"]["Devices"][0]
    assert (device["Name"], device["Count"], device["Constraints"][0]["RTarget"]) == ("nvidia/gpu", 2, H100)


def test_vllm_is_told_what_the_agent_needs() -> None:
    words = arguments(decided().plan)
    said = dict(pairwise(words))
    assert words[0] == "Qwen/Qwen3-32B-FP8"
    assert "--enable-auto-tool-choice" in words
    assert said["--tool-call-parser"] == "hermes"
    assert said["--reasoning-parser"] == "qwen3"
    assert said["--max-model-len"] == "32768"
    assert said["--gpu-memory-utilization"] == "0.9"
    assert said["--port"] == "${NOMAD_PORT_http}"
    assert "--api-key" not in words


def test_old_gpus_compute_in_the_other_16_bit() -> None:
    words = arguments(decided(gpu="Tesla T4").plan)
    assert words[words.index("--dtype") + 1] == "float16"


def test_weights_that_vllm_makes_itself() -> None:
    words = arguments(decided("weights=fp8", model="Qwen/Qwen2.5-7B-Instruct").plan)
    assert words[words.index("--quantization") + 1] == "fp8"
    assert "--quantization" not in arguments(decided().plan)


def test_the_key_comes_from_a_variable_of_the_job_alone() -> None:
    task = parse_hcl(rendered(decided()))["TaskGroups"][0]["Tasks"][0]
    template = task["Templates"][0]
    assert f'nomadVar "{key_path("caravan-model")}"' in template["EmbeddedTmpl"]
    assert (template["DestPath"], template["Perms"], template["Envvars"]) == ("secrets/caravan.env", "0600", True)
    assert "KEY" not in str(task["Env"])
    assert len(task["Templates"]) == 1


def test_a_new_key_makes_another_job() -> None:
    plan = decided().plan
    one, other = (serve_job(plan.model_copy(update={"key_mark": mark})).digest() for mark in ("a", "b"))
    assert one != other


def test_weights_are_kept_in_a_volume_where_one_is_named() -> None:
    facts = cluster((H100, 1), host_volumes={"models": HostVolume()})
    found = decide(Said(name="m", volume="models"), facts, Prices(), None)
    group = parse_hcl(rendered(found))["TaskGroups"][0]
    assert group["Volumes"]["models"]["Source"] == "models"
    assert group["Tasks"][0]["Env"]["HF_HOME"] == "/models/huggingface"
    assert not any("downloaded anew" in note for note in found.notes)
    assert group["EphemeralDisk"]["SizeMB"] < 10_000


def test_without_a_volume_there_is_disk_for_them_and_a_word_on_it() -> None:
    found = decided()
    group = parse_hcl(rendered(found))["TaskGroups"][0]
    assert group["EphemeralDisk"]["SizeMB"] > 34_000
    assert group["EphemeralDisk"]["Sticky"]
    assert any("downloaded anew" in note for note in found.notes)


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_volumes_that_are_not_there(name: str) -> None:
    facts = cluster((H100, 1)).model_copy(update={"csi_volumes": ("weights",)})
    with pytest.raises(UsageError, match="has no volume") as error:
        decide(Said(name="m", volume=name), facts, Prices(), None)
    assert "weights" in error.value.hint


def test_a_volume_that_can_not_be_written_to() -> None:
    facts = cluster((H100, 1), host_volumes={"models": HostVolume(read_only=True)})
    with pytest.raises(UsageError, match="read-only"):
        decide(Said(name="m", volume="models"), facts, Prices(), None)


def test_the_sites_mirrors_count() -> None:
    site = ClusterProfile(
        address="http://nomad.example:4646",
        registry_mirrors={"docker.io": "registry.example/hub"},
        hf_endpoint="https://hub.example",
        env={"HTTPS_PROXY": "http://proxy.example:3128"},
    )
    plan = decided(profile=site).plan
    assert plan.image == f"registry.example/hub/{IMAGE}"
    assert plan.env == {"HTTPS_PROXY": "http://proxy.example:3128", "HF_ENDPOINT": "https://hub.example"}


def test_the_image_is_of_the_version_that_is_pinned() -> None:
    pin = next(
        line.strip().removeprefix("vllm==")
        for line in (Path(TEMPLATES).parent / "requirements-serve.txt").read_text().splitlines()
        if line.startswith("vllm==")
    )
    assert f"vllm/vllm-openai:v{pin}" == IMAGE


def test_a_program_of_ones_own_needs_no_gpu() -> None:
    found = decided("driver=raw_exec", "command=python serve.py", model="my/model", gpus=0)
    task = parse_hcl(rendered(found))["TaskGroups"][0]["Tasks"][0]
    assert task["Config"]["command"] == "python"
    assert task["Config"]["args"][:2] == ["serve.py", "my/model"]
    assert task["Resources"]["Devices"] is None
    assert "--tensor-parallel-size" not in task["Config"]["args"]


@pytest.mark.parametrize(
    ("said", "why"),
    [({"gpus": 0}, "a model must be named"), ({"gpus": 0, "model": "m"}, "needs a GPU")],
)
def test_without_gpus_and_without_a_program(said: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        decided(**said)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("prot=8000", "no field 'prot'"),
        ("port", "no FIELD=VALUE"),
        ("port=99999", "--set port"),
        ("port=x", "--set port"),
        ("context=10", "--context"),
        ("weights=int3", "--quantization"),
        ("args=--api-key abc", "stands in the job file"),
        ("gpu_memory_utilization=2", "gpu_memory_utilization"),
        ("args=[", "can't be read"),
        ("args=--x 'y", "can't be read"),
        ("served_name=hf_abcdefghijklmnopqrstuvwxyz0123456789", "secret"),
    ],
)
def test_options_that_can_not_be(text: str, why: str) -> None:
    with pytest.raises(UsageError) as error:
        read_options([text])
    assert why in error.value.message
    assert error.value.hint


def test_options_as_they_are_typed() -> None:
    found = read_options(["args=--enforce-eager --seed 1", "kv_fp8=true"], context=8192, quantization="awq")
    assert found == ServeOptions(args=("--enforce-eager", "--seed", "1"), kv_fp8=True, context=8192, weights="awq")


@pytest.mark.parametrize("name", ["", "Qwen", "a b", "-a", "a" * 51, "a/b", "ä"])
def test_names_that_no_service_can_have(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


# --- policies and money ---------------------------------------------------------------------------------------------


def test_an_empty_policy_allows_it() -> None:
    assert job_denials(parse_hcl(rendered(decided())), law()) == ()


@pytest.mark.parametrize(
    ("rules", "rule"),
    [
        ({"images": ImageRules(registries=("registry.example",))}, "images.registries"),
        ({"images": ImageRules(require_digest=True)}, "images.require_digest"),
        ({"jobs": JobRules(drivers=("exec",))}, "jobs.drivers"),
        ({"limits": LimitRules(gpus=0)}, "limits.gpus"),
        ({"limits": LimitRules(gpu_models=("L4",))}, "limits.gpu_models"),
        ({"limits": LimitRules(max_run_s=3600)}, "limits.max_run_s"),
        ({"limits": LimitRules(priority=50)}, "limits.priority"),
        ({"secrets": SecretRules(nomad=("nomad/jobs",))}, "secrets.nomad"),
    ],
)
def test_policies_hold_for_it_too(rules: dict[str, Any], rule: str) -> None:
    found = job_denials(parse_hcl(rendered(decided())), law(**rules))
    assert [d.rule for d in found] == [rule]


def test_the_price_of_an_hour_a_day_and_a_month() -> None:
    price = Price(decided(gpus=2).plan.usd_per_hour)
    assert price.line() == "It costs 5.90 USD an hour until it is stopped: 141.60 a day, 4307.00 a month."
    assert "not known" in Price(None).line()


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rules", "spent", "denied"),
    [
        (MoneyRules(per_day_usd=24.0), Spending(), []),
        (MoneyRules(per_day_usd=24.0), Spending(day_usd=1.0), ["money.per_day_usd"]),
        (MoneyRules(per_run_usd=23.0), Spending(), ["money.per_run_usd"]),
        (MoneyRules(per_month_usd=228.0), Spending(), []),  # nine and a half days are left
        (MoneyRules(per_month_usd=228.0), Spending(month_usd=1.0), ["money.per_month_usd"]),
        (MoneyRules(per_user_month_usd=100.0), Spending(), ["money.per_user_month_usd"]),
    ],
)
def test_money_rules_count_a_day_or_the_months_rest(rules: MoneyRules, spent: Spending, denied: list[str]) -> None:
    found = money_denials(Price(1.0), spent, law(money=rules), NOON)
    assert [d.rule for d in found] == denied


def test_a_price_that_is_not_known_is_over_every_money_rule() -> None:
    found = money_denials(Price(None), Spending(), law(money=MoneyRules(per_day_usd=9.0, per_month_usd=9.0)), NOON)
    assert {d.rule for d in found} == {"money.per_day_usd", "money.per_month_usd"}


@pytest.mark.parametrize(
    ("hour", "yes", "budget", "why"),
    [
        (1.0, True, None, ""),
        (1.0, False, None, ""),
        (2.0, True, None, "--yes allows 25.00"),
        (2.0, False, None, ""),
        (2.0, True, 50.0, ""),
        (2.0, False, 40.0, "the budget is 40.00"),
        (11.0, False, None, "the hard limit is 250.00"),
        (None, True, None, "not known"),
        (None, False, None, ""),
        (0.0, True, None, ""),
    ],
)
def test_what_yes_allows(hour: float | None, yes: bool, budget: float | None, why: str) -> None:
    found = refused(Price(hour), soft_usd=25.0, hard_usd=250.0, budget_usd=budget, yes=yes)
    assert (why in found) if why else found == ""
