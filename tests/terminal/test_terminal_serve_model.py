"""`serve-model` over a scripted cluster: asked, deployed once, followed, updated, ended; what is wrong is said."""

import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.serving import mark_of
from caravan.terminal.app import run
from caravan.terminal.streams import Terminal
from caravan.values.errors import ClusterDenied, ClusterUnreachable
from caravan.values.policy import ImageRules, MoneyRules, Policies, Policy, PolicyFile
from caravan.values.run import RunRecord, RunRequest, RunStatus
from tests.fakes.cluster import FakeCluster, Script, one_node
from tests.fakes.wiring import FakeWiring, nobody, person, printed
from tests.planning.test_serving_choice import cluster

H100 = "NVIDIA H100 80GB HBM3"
KEY_PATH = "nomad/jobs/caravan-model"


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    made = FakeWiring(home)
    made.nomad = FakeCluster(made.clock, script=lambda job: Script(hangs=True), facts=cluster(("NVIDIA L4", 4)))
    return made


def said(wiring: FakeWiring, *words: str, terminal: Terminal | None = None) -> tuple[int, str, str]:
    terminal = terminal or nobody()
    code = run(wiring, ["serve-model", *words], terminal)
    return code, *printed(terminal)


def document(wiring: FakeWiring, *words: str) -> dict[str, Any]:
    code, out, _ = said(wiring, "--json", *words)
    found: dict[str, Any] = json.loads(out)
    assert found["exit_code"] == code
    return found


def key_of(wiring: FakeWiring) -> Path:
    return next(wiring.home.glob("models/*/api.key"))


def test_it_is_deployed_followed_and_told(wiring: FakeWiring) -> None:
    code, out, err = said(wiring, "--yes")
    assert code == 0
    assert "Model Qwen/Qwen3-14B-AWQ, context 32768" in out
    assert "It costs 0.44 USD an hour until it is stopped" in out
    assert "It is healthy at http://127.0.0.1:8000/v1" in out
    assert "export CARAVAN_MODEL=Qwen/Qwen3-14B-AWQ" in out
    assert "running" in err
    assert len(wiring.nomad.registrations) == 1
    key = key_of(wiring)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert wiring.nomad.variable_names(KEY_PATH) == frozenset({"VLLM_API_KEY"})
    secret = key.read_text().strip()
    assert len(secret) >= 43
    assert secret not in out + err
    assert secret not in json.dumps(wiring.nomad.registrations)
    assert f"CARAVAN_MODEL_API_KEY_FILE={key}" in out


def test_twice_is_once(wiring: FakeWiring) -> None:
    said(wiring, "--yes")
    key = key_of(wiring).read_text()
    code, out, _ = said(wiring)  # nothing is asked: nothing changes
    assert code == 0
    assert "It is served like that already" in out
    assert len(wiring.nomad.registrations) == 1
    assert key_of(wiring).read_text() == key


def test_a_change_is_asked_for_and_takes_the_jobs_place(wiring: FakeWiring) -> None:
    said(wiring, "--yes")
    code, _, err = said(wiring, "--context", "16384")
    assert (code, len(wiring.nomad.registrations)) == (3, 1)
    assert "needs approval" in err
    someone = person("y")
    code, _, err = said(wiring, "--context", "16384", terminal=someone)
    assert (code, len(wiring.nomad.registrations)) == (0, 2)
    assert "Replace what caravan-model serves now" in err
    assert wiring.nomad.registrations[1]["Meta"]["caravan_serves_context"] == "16384"


def test_a_no_is_a_no(wiring: FakeWiring) -> None:
    code, _, err = said(wiring, terminal=person("n"))
    assert (code, wiring.nomad.registrations) == (3, [])
    assert "Nothing was deployed" in err
    assert wiring.nomad.variable_names(KEY_PATH) is None


def test_money_beyond_the_limits(wiring: FakeWiring) -> None:
    wiring.nomad = FakeCluster(wiring.clock, script=lambda job: Script(hangs=True), facts=cluster((H100, 8)))
    code, _, err = said(wiring, "--yes")
    assert (code, wiring.nomad.registrations) == (3, [])
    assert "A day of it costs 70.80 USD, and --yes allows 25.00" in err
    assert said(wiring, "--yes", "--budget", "80")[0] == 0


def test_a_policy_denies(wiring: FakeWiring) -> None:
    rules = Policy(images=ImageRules(registries=("registry.example",)))
    wiring.law = Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=rules),))
    code, _, err = said(wiring, "--yes")
    assert (code, wiring.nomad.registrations) == (4, [])
    assert "images.registries in /etc/caravan/policy.toml" in err
    assert wiring.nomad.variable_names(KEY_PATH) is None


def test_a_policy_on_money_denies(wiring: FakeWiring) -> None:
    rules = Policy(money=MoneyRules(per_month_usd=5))
    wiring.law = Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=rules),))
    code, _, err = said(wiring, "--yes")
    assert (code, wiring.nomad.registrations) == (4, [])
    assert "money.per_month_usd" in err


def test_what_a_run_of_last_month_costs_this_month_counts(wiring: FakeWiring) -> None:
    now = wiring.clock.now()
    rules = Policy(money=MoneyRules(per_month_usd=2000))
    wiring.law = Policies(files=(PolicyFile(path="/etc/caravan/policy.toml", policy=rules),))
    assert said(wiring, "--yes", "--dry-run")[0] == 0
    request = RunRequest(prompt="p", source="/repo", cluster="local")
    begun = now - timedelta(days=40)
    wiring.runs.create_run(
        RunRecord(id="old", created_at=begun, updated_at=begun, status=RunStatus.RUNNING, request=request, user="ada")
    )
    wiring.runs.update_run("old", cost_usd=1999.99, spent_since=now)
    code, _, err = said(wiring, "--yes")
    assert (code, wiring.nomad.registrations) == (4, [])
    assert "money.per_month_usd" in err


def test_ctrl_d_is_a_no(wiring: FakeWiring) -> None:
    code, _, err = said(wiring, terminal=person(EOFError()))
    assert (code, wiring.nomad.registrations) == (3, [])
    assert "Nothing was deployed" in err


def test_a_policy_that_can_not_be_read_lets_nothing_through(wiring: FakeWiring) -> None:
    wiring.law = Policies(trouble="/etc/caravan/policy.toml can't be read.")
    assert said(wiring, "--yes")[0] == 4
    assert wiring.nomad.registrations == []


def test_a_cluster_without_gpus_says_what_to_do(wiring: FakeWiring) -> None:
    wiring.nomad = FakeCluster(wiring.clock, facts=one_node(builtin=False))
    code, _, err = said(wiring, "--yes")
    assert code == 2
    assert "has no GPU that it tells of" in err
    assert "CARAVAN_MODEL_URL" in err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--stop", "--status"], "different things"),
        (["--sizes", "--stop"], "different things"),
        (["--sizes", "--status"], "different things"),
        (["--set", "args=--api_key sk-123"], "job file"),
        (["--set", "args=--api-k=sk-123"], "job file"),
        (["--set", 'args=["--config", "/x.yaml"]'], "job file"),
        (["--set", "command=vllm serve --Api_Key sk-123"], "job file"),
        (["--set", "command=sh -c 'vllm serve --api-key sk-123'"], "job file"),
        (["--set", "command=env VLLM_API_KEY=sk-123 vllm serve"], "job file"),
        (["--set", "args=--ssl_keyfile_pass x"], "job file"),
        (["--forget-key"], "goes with --stop"),
        (["--gpus", "-1"], "no number of GPUs"),
        (["--name", "Big Model"], "no name for a service"),
        (["--quantization", "int3"], "--quantization"),
        (["--context", "7"], "--context"),
        (["--set", "prt=1"], "no field"),
        (["--budget", "-1"], "no amount of money"),
        (["who/knows"], "is not known"),
        (["--gpus", "three"], "--gpus"),
    ],
)
def test_wrong_words(wiring: FakeWiring, words: list[str], why: str) -> None:
    code, _, err = said(wiring, "--yes", *words)
    assert code == 2
    assert why in err
    assert wiring.nomad.registrations == []


def test_a_dry_run_deploys_nothing_and_leaves_nothing(wiring: FakeWiring) -> None:
    code, out, _ = said(wiring, "--dry-run")
    assert code == 0
    assert 'service {\n      name     = "caravan-model"' in out
    assert "Nothing was deployed" in out
    assert wiring.nomad.registrations == []
    assert not (wiring.home / "models").exists()
    found = document(wiring, "--dry-run")
    assert (found["model"], found["gpus"], found["waits_for"]) == ("Qwen/Qwen3-14B-AWQ", 1, [])
    assert found["memory_gib"]["needed"] < found["memory_gib"]["vLLM's share of the GPU"]


def test_for_programs_it_is_one_document(wiring: FakeWiring) -> None:
    found = document(wiring, "--yes")
    assert (found["healthy"], found["usd_per_hour"]) == (True, 0.44)
    assert found["environment"]["CARAVAN_MODEL_URL"] == found["url"] == "http://127.0.0.1:8000/v1"
    assert found["environment"]["CARAVAN_MODEL_API_KEY_FILE"] == found["key_file"]
    status = document(wiring, "--status")
    assert (status["healthy"], status["model"], status["url"]) == (True, "Qwen/Qwen3-14B-AWQ", found["url"])


def test_a_server_that_dies_is_told_with_its_cause_and_stopped(wiring: FakeWiring) -> None:
    words = b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB\n"
    wiring.nomad = FakeCluster(
        wiring.clock,
        script=lambda job: Script(exit_code=1, stderr=words, unhealthy="refused"),
        facts=cluster(("NVIDIA L4", 4)),
    )
    code, out, _ = said(wiring, "--yes")
    assert code == 1
    assert "the weights do not fit into the GPU's memory" in out
    assert "It said: torch.OutOfMemoryError" in out
    assert "Give more GPUs" in out
    assert document(wiring, "--status")["exit_code"] == 1


def test_a_server_that_never_answers_is_given_up(wiring: FakeWiring) -> None:
    wiring.nomad = FakeCluster(
        wiring.clock,
        script=lambda job: Script(hangs=True, unhealthy="connection refused"),
        facts=cluster(("NVIDIA L4", 4)),
    )
    code, out, _ = said(wiring, "--yes", "--set", "start_s=60")
    assert code == 1
    assert "does not answer yet (connection refused)" in out
    assert "It was stopped" in out
    found = wiring.nomad.find("caravan-model")
    assert found is not None
    assert found.stopped


def test_what_served_before_is_not_stopped_for_a_bad_change(wiring: FakeWiring) -> None:
    said(wiring, "--yes")
    wiring.nomad._script = lambda job: Script(hangs=True, unhealthy="503")
    code, out, _ = said(wiring, "--yes", "--context", "16384", "--set", "start_s=60")
    assert code == 1
    assert "It was stopped" not in out


def test_ctrl_c_while_it_starts_leaves_it_alone(wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    wiring.nomad = FakeCluster(
        wiring.clock, script=lambda job: Script(hangs=True, unhealthy="503"), facts=cluster(("NVIDIA L4", 4))
    )
    monkeypatch.setattr(wiring.clock, "sleep", interrupted)
    code, _, err = said(wiring, "--yes")
    assert code == 130
    assert "serve-model --stop ends it" in err
    found = wiring.nomad.find("caravan-model")
    assert found is not None
    assert not found.stopped


def test_an_answer_that_is_lost_registers_nothing_twice(wiring: FakeWiring) -> None:
    wiring.nomad.fail("register", ClusterUnreachable("no answer"), after=True)
    assert said(wiring, "--yes")[0] == 0
    assert len(wiring.nomad.registrations) == 1


def test_what_broke_off_before_the_registration_goes_on_with_the_same_key(wiring: FakeWiring) -> None:
    wiring.nomad.fail("register", ClusterUnreachable("no answer"))
    assert said(wiring, "--yes")[0] == 4
    key = key_of(wiring).read_text()
    assert said(wiring, "--yes")[0] == 0
    assert key_of(wiring).read_text() == key
    assert len(wiring.nomad.registrations) == 1


def test_a_job_of_that_name_that_is_somebody_elses_is_left_alone(wiring: FakeWiring) -> None:
    document(wiring, "--yes")
    job = {**wiring.nomad.registrations[0], "ID": "theirs", "Meta": {}}
    wiring.nomad.register(job)
    for words in (["--yes"], ["--stop"], ["--status"]):
        code, _, err = said(wiring, "--name", "theirs", *words)
        assert code == 4
        assert "somebody else's" in err


def test_it_is_stopped_and_served_again(wiring: FakeWiring) -> None:
    said(wiring, "--yes")
    code, out, _ = said(wiring, "--stop")
    assert (code, "was told to end" in out) == (0, True)
    assert wiring.nomad.variable_names(KEY_PATH) == frozenset({"VLLM_API_KEY"})
    assert "No model was served" in said(wiring, "--stop")[1]
    assert said(wiring, "--status")[0] == 1
    assert said(wiring, "--yes")[0] == 0
    assert len(wiring.nomad.registrations) == 2


def test_stopping_frees_the_key_when_it_is_told_to(wiring: FakeWiring) -> None:
    said(wiring, "--yes")
    key = key_of(wiring)
    code, out, _ = said(wiring, "--stop", "--forget-key")
    assert code == 0
    assert "API key is gone" in out
    assert wiring.nomad.variable_names(KEY_PATH) is None
    assert not key.exists()


@pytest.mark.parametrize("denied", [False, True])
def test_after_the_key_was_forgotten_another_one_is_made(wiring: FakeWiring, denied: bool) -> None:
    said(wiring, "--yes")
    if denied:
        wiring.nomad.fail("remove_variable", ClusterDenied("no right"))
    old = key_of(wiring).read_text()
    assert said(wiring, "--stop", "--forget-key")[0] == 0
    assert said(wiring, "--yes")[0] == 0
    new = key_of(wiring).read_text().strip()
    assert new != old.strip()
    assert wiring.nomad.variables["default", KEY_PATH]["VLLM_API_KEY"] == new
    marks = [job["Meta"]["caravan_serves_key"] for job in wiring.nomad.registrations]
    assert marks[1] == mark_of(new) != marks[0]


def test_options_like_those_of_keys_are_taken(wiring: FakeWiring) -> None:
    words = "args=--config-format hf --api-server-count 1 --ssl-keyfile /tls/key.pem"
    assert said(wiring, "--yes", "--set", words)[0] == 0


def test_another_key_is_another_registration(wiring: FakeWiring) -> None:
    said(wiring, "--yes")
    before = key_of(wiring).read_text()
    assert said(wiring, "--yes", "--new-key")[0] == 0
    assert key_of(wiring).read_text() != before
    marks = [job["Meta"]["caravan_serves_key"] for job in wiring.nomad.registrations]
    assert len(set(marks)) == 2


def test_the_key_is_given_to_a_file(wiring: FakeWiring, tmp_path: Path) -> None:
    said(wiring, "--yes")
    to = tmp_path / "given" / "key"
    code, out, err = said(wiring, "--status", "--key-file", str(to))
    assert code == 0
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    assert to.read_text() == key_of(wiring).read_text()
    assert to.read_text().strip() not in out + err


def test_on_another_machine_the_key_stays_where_it_is(wiring: FakeWiring, tmp_path: Path) -> None:
    said(wiring, "--yes")
    key_of(wiring).unlink()
    code, out, _ = said(wiring)
    assert code == 0
    assert "It is served like that already" in out
    assert "API_KEY_FILE" not in out
    code, _, err = said(wiring, "--status", "--key-file", str(tmp_path / "key"))
    assert code == 2
    assert "--new-key" in err


def test_status_of_nothing(wiring: FakeWiring) -> None:
    code, out, _ = said(wiring, "--status")
    assert code == 1
    assert "No model is served as caravan-model" in out
    assert document(wiring, "--status")["phase"] == "gone"


def test_the_built_in_cluster_is_not_started_to_look_at_nothing(wiring: FakeWiring) -> None:
    assert said(wiring, "--status", "--cluster", "local")[0] == 1
    assert said(wiring, "--stop", "--cluster", "local")[0] == 0
    assert wiring.clusters == []
