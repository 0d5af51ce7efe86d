"""Secrets are planted wherever one can come from, real runs are driven, and every byte that was written is searched.

The one place that may hold values is the cluster's own: its variables, and the files and logs of its allocations.
"""

import base64
import gzip
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from caravan.cluster.local import control
from caravan.terminal.app import run
from caravan.terminal.streams import Terminal
from main import Application
from tests.fakes.langfuse_kept import Asked, unpacked
from tests.fakes.langfuse_server import SECRET_KEY as LANGFUSE_SECRET
from tests.fakes.langfuse_server import LangfuseServer

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6InBsYW50ZWQifQ.c2lnbmF0dXJlX3BsYW50ZWQ"
PEM = "-----BEGIN RSA PRIVATE KEY-----\n{}\n{}\n-----END RSA PRIVATE KEY-----"
PEM_LINES = (
    "MIIEpAIBAAKCAQEAplantedplantedplanted1111111111111111111111111111",
    "c2Vjb25kbGluZW9mdGhlcGxhbnRlZGtleQ22222222222222",
)

ENVIRONMENT = {  # name → value: known by the name alone, whatever they look like
    "HF_TOKEN": "hf_PlantedEnvironmentToken0001",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "OPENAI_API_KEY": "sk-proj-PlantedOpenAiKey00000000000003",
    "ANTHROPIC_API_KEY": "sk-ant-PlantedAnthropicKey0000000004",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED000000005",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+access/key=000000000006",
    "AWS_SESSION_TOKEN": "FwoGplanted//////////session+token==0007",
    "QDRANT_API_KEY": "planted qdrant key with blanks 08",
    "LANGFUSE_SECRET_KEY": LANGFUSE_SECRET,
    "COMET_API_KEY": 'odd "quoted" & <key> 10',
    "DB_PASSWORD": "short!",
    "NEPTUNE_API_TOKEN": "eyJhcGlfYWRkcmVzcyI6InBsYW50ZWQifQ==12",
    "GITLAB_PAT": "planted-personal-access-13",
    "LABELS_DATABASE_URL": "postgresql://trainer:pg-planted-0014@db.invalid/runs",
    "PIP_INDEX_URL": "https://packages:pip-planted-0015@pypi.invalid/simple",
    "SIGNING_KEY": PEM.format(*PEM_LINES),
}
SENT = ("HF_TOKEN", "WANDB_API_KEY", "COMET_API_KEY", "SIGNING_KEY")
"""Those that the training needs, and gets by reference."""

IN_FILES = {  # place → (text with the secret, the secret): known by their shape or by the name before them
    "source": ('API_TOKEN = "src-planted-000000016"', "src-planted-000000016"),
    "source url": ('DSN = "mysql://root:my-planted-0017@db.invalid/x"', "my-planted-0017"),
    "hub": ('LOGIN = "hf_PlantedInTheSource000018"', "hf_PlantedInTheSource000018"),
    "vault": ('VAULT = "hvs.PlantedVaultToken00000000019"', "hvs.PlantedVaultToken00000000019"),
    "github": ('GH = "ghp_PlantedGitHubToken0000000000020"', "ghp_PlantedGitHubToken0000000000020"),
    "slack": ('SLACK = "xoxb-planted-0000000021"', "xoxb-planted-0000000021"),
    "jwt": (f'SESSION = "{JWT}"', JWT),
    "google": ('MAPS = "AIzaPlantedPlantedPlantedPlanted0023"', "AIzaPlantedPlantedPlantedPlanted0023"),
    "basic": ('HEADER = "Authorization: Basic cGxhbnRlZDpwbGFudGVkLTAwMjQ="', "cGxhbnRlZDpwbGFudGVkLTAwMjQ="),
    "bearer": ('BEARER = "Bearer planted.bearer.token.000025"', "planted.bearer.token.000025"),
    "netrc": ('NETRC = "machine x.invalid login me password netrc-planted-0026"', "netrc-planted-0026"),
    "glpat": ('GL = "glpat-PlantedGitLabToken00027"', "glpat-PlantedGitLabToken00027"),
}
ELSEWHERE = {
    "config.yaml": "yaml-planted-secret-000028",
    ".env": "dotenv-planted-secret-000029",
    "notebook": "hf_PlantedInTheNotebook000030",
    "git remote": "remote-planted-000031",
    ".netrc": "netrcfile-planted-000032",
    "id_rsa": "cGxhbnRlZHByaXZhdGVrZXlmaWxlMDAwMzMwMDAzMw",
    "prompt": "hf_PlantedInThePrompt00000034",
    "readme": "sk-PlantedInTheReadme00000000035",
    "cluster token": "",  # filled in: the built-in cluster's own
}
TRAIN = f"""
import argparse, base64, json, os, sys, traceback
from urllib.parse import quote

import yaml_free_config as config

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--fail", type=int, default=0)
args = parser.parse_args()
token, tracking = os.environ["HF_TOKEN"], os.environ["WANDB_API_KEY"]
comet, key = os.environ["COMET_API_KEY"], os.environ["SIGNING_KEY"]
{chr(10).join(text for text, _ in IN_FILES.values())}
for stream in (sys.stdout, sys.stderr):
    for value in (token, tracking, comet, key):
        for form in (value, quote(value, safe=""), json.dumps(value), base64.b64encode(value.encode()).decode()):
            print("said:", form, file=stream)
        print("in a header:", base64.b64encode(f"user:{{value}}".encode()).decode(), file=stream)
    print(dict(os.environ), file=stream)
    print("connecting with api_token:", API_TOKEN, file=stream)
    for shaped in (DSN, LOGIN, VAULT, GH, SLACK, SESSION, MAPS, HEADER, BEARER, NETRC, GL):
        print("read", shaped, "and more", file=stream)
    print(open(config.__file__).read(), file=stream)
loss = 3.5
for epoch in range(args.epochs):
    loss /= 2
    print(json.dumps({{"epoch": epoch, "loss": loss}}), flush=True)
if args.fail:
    raise RuntimeError(f"login with {{token}} and {{comet}} failed")
"""


def all_planted() -> dict[str, str]:
    lines = {f"SIGNING_KEY line {i}": line for i, line in enumerate(PEM_LINES)}
    urls = {"LABELS_DATABASE_URL": "pg-planted-0014", "PIP_INDEX_URL": "pip-planted-0015"}
    named = {name: value for name, value in ENVIRONMENT.items() if name not in (*urls, "SIGNING_KEY")}
    return {**named, **lines, **urls, **{n: s for n, (_, s) in IN_FILES.items()}, **ELSEWHERE}


def forms(secret: str) -> set[bytes]:
    """The secret as it is, quoted for URLs, escaped for JSON, and in base64 wherever it begins."""
    data = secret.encode()
    found = {data, quote(secret).encode(), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    if len(data) >= 12:
        for before in range(3):
            inside = base64.b64encode(b"\0" * before + data).decode()
            found.add(inside[(0, 2, 3)[before] : (len(data) + before) * 8 // 6].encode())
    return found


def contents(file: Path) -> Iterator[tuple[str, bytes]]:
    """A file's bytes, and those of what is packed in it."""
    data = file.read_bytes()
    yield str(file), data
    if data[:2] == b"\x1f\x8b":
        yield f"{file} (unpacked)", gzip.decompress(data)


@dataclass
class Seen:
    """What a command has said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


@dataclass
class Place:
    """A state directory with its cluster and the repository with what is planted in it."""

    home: Path
    repository: Path
    langfuse: LangfuseServer
    said: list[str] = field(default_factory=list)

    def run(self, *words: str, code: int | None = None) -> Seen:
        out, err = io.StringIO(), io.StringIO()
        got = run(Application(), list(words), Terminal(io.StringIO(), out, err))
        self.said += [out.getvalue(), err.getvalue()]
        assert code is None or got == code, (got, out.getvalue()[-3000:], err.getvalue()[-3000:])
        return Seen(got, out.getvalue(), err.getvalue())

    def train(self, *more: str, code: int | None = None, yes: bool = True) -> Seen:
        words = ["--prompt", f"Train it with {ELSEWHERE['prompt']}", "--codebase-path", str(self.repository)]
        words += ["--cluster", "local", "--set", "resources.memory_mb=256", "--json", *(["--yes"] if yes else [])]
        return self.run(*words, *more, code=code)

    def found(self) -> list[str]:
        """Where a planted secret stands in what was written or said."""
        planted = {name: forms(secret) for name, secret in all_planted().items() if secret}
        cluster = self.home / "cluster"
        kept = (cluster / "allocs", cluster / "variables.json", cluster / "token")
        texts = [("stdout or stderr", said.encode()) for said in self.said]
        texts += [(f"what went to LangFuse ({a.method} {a.path})", unpacked(a)) for a in list(self.langfuse.asked)]
        for file in self.home.rglob("*"):
            inside = any(file == place or place in file.parents for place in kept)
            if file.is_file() and not inside and file.name != "code.tar.gz":
                texts += contents(file)
        return [
            f"{name} in {where}"
            for where, text in texts
            for name, some in planted.items()
            if any(s in text for s in some)
        ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("planted")
    home, repository = root / "home", root / "repository"
    for folder in (home, repository):
        folder.mkdir()
    files = {
        "train.py": TRAIN,
        "yaml_free_config.py": f'password = "{ELSEWHERE["config.yaml"]}"\n',
        "config.yaml": f"api_key: {ELSEWHERE['config.yaml']}\nepochs: 2\n",
        ".env": f"TOKEN={ELSEWHERE['.env']}\n",
        ".netrc": f"machine x login y password {ELSEWHERE['.netrc']}\n",
        "id_rsa": PEM.format(ELSEWHERE["id_rsa"], ELSEWHERE["id_rsa"]),
        "README.md": f"# Train\n\n    OPENAI_API_KEY={ELSEWHERE['readme']} python train.py --epochs 2\n",
        "look.ipynb": json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "source": [f"login('{ELSEWHERE['notebook']}')"],
                        "metadata": {},
                        "outputs": [{"output_type": "stream", "text": [ELSEWHERE["notebook"]]}],
                    }
                ],
                "metadata": {},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        ),
    }
    for name, text in files.items():
        (repository / name).write_text(text)
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@x.invalid")
    for words in (
        ("init", "-q"),
        ("add", "train.py", "README.md", "config.yaml", "yaml_free_config.py"),
        ("commit", "-q", "-m", "x"),
        ("remote", "add", "origin", f"https://me:{ELSEWHERE['git remote']}@git.invalid/x.git"),
    ):
        subprocess.run((*git, *words), cwd=repository, check=True, env={"PATH": os.environ["PATH"], "HOME": str(root)})
    control.start(home / "cluster", inventory=None, environment={"PATH": os.environ["PATH"]})
    with LangfuseServer() as langfuse:
        yield Place(home, repository, langfuse)
    control.stop(home / "cluster")


@pytest.fixture(autouse=True)
def _planted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_HOME", str(place.home))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name, value in place.langfuse.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CARAVAN_TRACE_CONTENT", "1")  # the most that can leave
    ELSEWHERE["cluster token"] = (place.home / "cluster" / "token").read_text().strip()


def test_there_are_many_of_them() -> None:
    assert len({s for s in all_planted().values() if s}) >= 35


def test_the_search_finds_what_is_there(place: Place) -> None:
    leak = place.home / "leak.bin"
    for name, secret in all_planted().items():
        for form in forms(secret):
            leak.write_bytes(b"\0before" + form + b"after\xff")
            assert f"{name} in {leak}" in place.found()
    leak.write_bytes(gzip.compress(PEM_LINES[0].encode()))
    assert any("unpacked" in said for said in place.found())
    leak.unlink()


def test_a_run_that_waits_for_a_person_writes_none(place: Place) -> None:
    asked = place.train(code=3).document
    assert asked["question"]["kind"] == "secrets"
    assert sorted(asked["question"]["names"]) == sorted(SENT)
    variables = place.home / "cluster" / "variables.json"
    assert not variables.exists()
    assert place.found() == []
    place.run("stop", asked["run_id"], code=0)
    assert place.found() == []


def test_a_run_that_succeeds_writes_none_and_trains_with_them(place: Place) -> None:
    done = place.train("--send-secrets", code=0).document
    logs = "".join(f.read_text() for f in (place.home / "runs" / done["run_id"] / "logs").glob("*.log"))
    assert "[masked]" in logs
    assert '"loss": 1.75' in logs
    held = json.loads((place.home / "cluster" / "variables.json").read_text())["variables"]["nomad/jobs"]["Items"]
    assert held == {name: ENVIRONMENT[name] for name in SENT}
    assert place.found() == []


def test_a_run_that_fails_writes_none(place: Place) -> None:
    failed = place.train("--send-secrets", "--set", 'command=["train.py", "--fail", "1"]')
    assert failed.code in (1, 3), failed.err
    assert "RuntimeError" in json.dumps(failed.document)
    for words in (("show",), ("logs",), ("report",), ("traces",)):
        place.run(*words, failed.document["run_id"])
    place.run("config", "--json")
    place.run("analyze", str(place.repository), "--json")
    place.run("memory", "list", "--json")
    assert place.found() == []


def test_what_is_set_by_value_is_refused_before_anything_is_written(place: Place) -> None:
    before = set((place.home / "runs").glob("*"))
    answers = place.repository.parent / "answers.yaml"
    answers.write_text(f"dataset: https://me:{ELSEWHERE['git remote']}@data.invalid/x\n")
    for more in (
        ("--set", f"env.ANYTHING={ENVIRONMENT['DB_PASSWORD']}"),
        ("--set", f"env.HF_TOKEN={ELSEWHERE['prompt']}"),
        ("--set", f"outputs.location=s3://key:{ELSEWHERE['.env']}@bucket/x"),
        ("--set", f"training.output_dir={quote(ENVIRONMENT['COMET_API_KEY'], safe='')}"),
        ("--answers", str(answers)),
    ):
        refused = place.train(*more, code=2)
        assert "secret" in refused.out
    words = ("--prompt", "x", "--codebase-path", f"https://me:{ELSEWHERE['git remote']}@git.invalid/x.git", "--json")
    place.run(*words, code=2)
    assert set((place.home / "runs").glob("*")) == before
    assert place.found() == []


def test_the_code_archive_holds_the_code_and_no_file_of_secrets(place: Place) -> None:
    archives = list((place.home / "runs").glob("*/code.tar.gz"))
    assert archives
    with tarfile.open(archives[0]) as archive:
        names = {Path(name).name for name in archive.getnames()}
        packed = b"".join((archive.extractfile(m) or io.BytesIO()).read() for m in archive.getmembers() if m.isfile())
    assert "train.py" in names
    assert not names & {".env", ".netrc", "id_rsa", ".git", "config"}
    for name in (".env", ".netrc", "id_rsa", "git remote"):
        assert ELSEWHERE[name].encode() not in packed


def test_the_job_names_them_and_where_they_are(place: Place) -> None:
    jobs = sorted((place.home / "runs").glob("*/*/*.hcl"))
    assert jobs
    text = jobs[-1].read_text()
    assert 'with nomadVar "nomad/jobs"' in text
    for name in SENT:
        assert re.search(rf"^\s*{name}=", text, re.MULTILINE)


def test_nothing_that_went_to_langfuse_holds_one(place: Place) -> None:
    pushed = place.run("traces", "push", "--all-missing", "--json", code=0).document
    assert pushed["skipped"] == []
    spans = list(place.langfuse.kept.spans.values())
    assert len({span.trace_id for span in spans}) >= 3
    assert {"run", "register", "diagnose", "scored"} <= {span.name for span in spans}
    failed = [span for span in spans if span.name == "diagnose"]
    assert "[masked]" in json.dumps([span.attributes for span in spans])
    assert failed
    assert place.langfuse.kept.scores
    assert place.found() == []


def test_the_search_finds_what_went_to_langfuse(place: Place) -> None:
    body = gzip.compress(b"x" + ENVIRONMENT["HF_TOKEN"].encode())
    asked = Asked("POST", "/api/public/otel/v1/traces", {}, {"content-encoding": "gzip"}, body)
    place.langfuse.asked.append(asked)
    assert any("LangFuse" in said for said in place.found())
    place.langfuse.asked.remove(asked)
