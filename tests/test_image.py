"""The image: what its Dockerfile says, that its files alone do the main job on a read-only file
system, and, where a docker daemon answers, the image itself. The compose file is read and held to the same rules.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pathspec
import pytest
import yaml

from caravan import __version__
from tests.needs import missing

ROOT = Path(__file__).resolve().parent.parent
TRAIN = """
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--output_dir", default="out")
args = parser.parse_args()
out = pathlib.Path(args.output_dir)
out.mkdir(parents=True, exist_ok=True)
for epoch in range(args.epochs):
    print(json.dumps({"epoch": epoch, "loss": 2.0 / (epoch + 1)}), flush=True)
(out / "weights.txt").write_text("1")
"""


class Step(NamedTuple):
    """An instruction and its words as one text."""

    name: str
    words: str


def steps() -> list[Step]:
    """The Dockerfile's instructions; its comments and broken lines are put aside."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [Step(*line.split(None, 1)) for line in whole.splitlines() if line.strip()]


def last(name: str) -> str:
    return [step.words for step in steps() if step.name == name][-1]


def context() -> list[str]:
    """The files that the builder is sent: docker matches a pattern from the top, unless it begins with `**`."""
    patterns = []
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            bang, pattern = ("!", line[1:]) if line.startswith("!") else ("", line)
            everywhere = {"*": "/**", **({pattern: pattern} if pattern.startswith("**/") else {})}
            patterns.append(bang + everywhere.get(pattern, f"/{pattern}"))
    ignored = pathspec.PathSpec.from_lines("gitignore", patterns)
    listed = subprocess.run(["git", "ls-files", "-co", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and not ignored.match_file(name)]


def copied(to: Path) -> None:
    """What the Dockerfile copies of that into its working directory."""
    sent = context()
    for step in steps():
        if step.name != "COPY" or "--from" in step.words:
            continue
        *sources, place = step.words.split()
        for source in sources:
            found = [name for name in sent if Path(name).match(source) and "/" not in name] if "." in source else []
            found = found or [name for name in sent if name == source or name.startswith(f"{source}/")]
            assert found, f"COPY {source}: the builder is sent nothing of that name"
            for name in found:
                inside = name.removeprefix(f"{source}/") if name.startswith(f"{source}/") else Path(name).name
                target = to / place / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, target)


def test_the_base_is_an_argument_and_both_stages_are_of_it() -> None:
    (first, *_), stages = steps(), [step.words for step in steps() if step.name == "FROM"]
    assert first.name == "ARG"
    name, _, tag = first.words.removeprefix("BASE=").partition(":")
    assert (name, tag not in ("", "latest")) == ("python", True)
    assert stages == ["${BASE} AS build", "${BASE}"]


def test_nothing_is_run_as_it_comes_off_the_network() -> None:
    runs = [step.words for step in steps() if step.name == "RUN"]
    assert not any(step.name == "ADD" for step in steps())
    assert not [
        run for run in runs for word in ("curl", "wget", "| sh", "|sh", "| bash", "--trusted-host") if word in run
    ]
    (pip,) = [run for run in runs if "pip install" in run]
    assert "-r requirements.txt -c constraints.txt" in pip
    (apt,) = [run for run in runs if "apt-get" in run]
    assert "--no-install-recommends" in apt
    assert "rm -rf /var/lib/apt/lists/*" in apt


def test_all_that_the_agent_needs_is_pinned() -> None:
    for name in ("requirements.txt", "constraints.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        assert [line for line in lines if "==" not in line] == []


def test_it_is_no_root_and_its_program_is_the_entry_point() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) > 0 < int(group)  # numbers: what runs it can tell that it is no root
    assert json.loads(last("ENTRYPOINT")) == ["/venv/bin/python", "/app/main.py"]
    assert last("HEALTHCHECK") == "NONE"
    after = [step.name for step in steps()]
    assert "RUN" not in after[len(after) - after[::-1].index("USER") :]


def test_its_labels_take_the_version_from_the_code() -> None:
    label = shlex.split(last("LABEL"))
    assert "org.opencontainers.image.version=${VERSION}" in label
    assert "org.opencontainers.image.licenses=Apache-2.0" in label
    text = (ROOT / "Dockerfile").read_text()
    assert "ARG VERSION=\n" in text  # stated nowhere but in the code
    assert __version__ not in text
    make = subprocess.run(["make", "-n", "image"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"VERSION={__version__}" in make


def test_the_builder_is_sent_the_program_and_nothing_else() -> None:
    (ROOT / "caravan" / "__pycache__").mkdir(exist_ok=True)
    sent = context()
    assert "main.py" in sent
    tops = {name.split("/")[0] for name in sent}
    assert {top for top in tops if not top.endswith(".py")} == {
        *("requirements.txt", "constraints.txt", "LICENSE", "caravan", "templates")
    }
    assert [name for name in sent if name.endswith(".pyc") or "/.env" in name or "test" in name.split("/")[0]] == []


READ_ONLY = """
mount --make-rprivate / && mount --bind "$1" "$1" && mount --bind "$2" "$2" || exit 125
for place in / "$(stat -c %m "$3")"; do mount -o remount,bind,ro "$place" || exit 125; done
shift 2
exec "$@"
"""
"""Of $1 and $2 alone the rest may be written; $3 is the program that is run."""


def fence() -> list[str] | None:
    """The command before a program that is to see a read-only file system; None where this machine allows no such."""
    for words in (["unshare", "-m"], ["unshare", "-rm"]):
        with tempfile.TemporaryDirectory() as folder:
            tried = [*words, "sh", "-c", READ_ONLY, "sh", folder, folder, "/bin/true"]
            if shutil.which("unshare") and not subprocess.run(tried, capture_output=True, check=False).returncode:
                return [*words, "sh", "-c", READ_ONLY, "sh"]
    return None


class Installed:
    """The image's files on a file system that is read only, but for the state directory and a folder for a moment."""

    def __init__(self, root: Path, fence: list[str]) -> None:
        self.app, self.home, self.state, self.scratch = (root / name for name in ("app", "home", "state", "tmp"))
        for folder in (self.app, self.home, self.state, self.scratch):
            folder.mkdir()
        copied(self.app)
        self.repository = root / "repo"
        self.repository.mkdir()
        (self.repository / "train.py").write_text(TRAIN)
        self.fence = [*fence, str(self.state), str(self.scratch)]
        self.written = self.files()

    def files(self) -> dict[str, tuple[int, float]]:
        """What lies in the trees beside those two: each file's size and time."""
        found = [path for top in (self.app, self.home, self.repository) for path in top.rglob("*")]
        return {str(path): (path.lstat().st_size, path.lstat().st_mtime) for path in found}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of it, in an environment like the image's."""
        given = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.home),
            "CARAVAN_HOME": str(self.state),
            "TMPDIR": str(self.scratch),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        words = (sys.executable, str(self.app / "main.py"), *words)
        return subprocess.run([*self.fence, *words], cwd=self.app, env=given, capture_output=True, text=True)

    def told(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    fenced = fence()
    if fenced is None:
        pytest.skip("no file system can be made read only here (unshare)")
    found = Installed(tmp_path_factory.mktemp("image"), fenced)
    yield found
    assert found.run("cluster", "down").returncode == 0


def test_the_fence_holds(installed: Installed) -> None:
    place = installed.app / "planted"
    words = (sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", str(place))
    done = subprocess.run([*installed.fence, *words], capture_output=True, text=True, check=False)
    assert "Read-only file system" in done.stderr
    assert not place.exists()


def test_its_files_are_enough_to_say_what_it_is(installed: Installed) -> None:
    assert __version__ in installed.run("--version").stdout
    helped = installed.run("--help")
    assert (helped.returncode, "--codebase-path" in helped.stdout) == (0, True), helped.stderr
    assert installed.files() == installed.written


def test_doctor_answers_there(installed: Installed) -> None:
    done = installed.run("doctor", "--json")
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)
    assert installed.files() == installed.written


def test_the_main_job_is_done_on_a_read_only_file_system(installed: Installed) -> None:
    words = ("--prompt", "Train it for 2 epochs", "--codebase-path", str(installed.repository), "--cluster", "local")
    planned = installed.told(*words, "--yes", "--dry-run")
    assert planned["plan"]["command"][0].endswith("train.py")
    done = installed.told(*words, "--yes")
    assert done["status"] == "succeeded", done
    assert installed.files() == installed.written
    assert [path.name for path in installed.scratch.iterdir()] == []


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The image, built here."""

    def docker(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["docker", *words], cwd=ROOT, capture_output=True, text=True, check=False)

    if shutil.which("docker") is None or docker("info").returncode:
        missing("docker")
    base = os.environ.get("CARAVAN_TEST_BASE", steps()[0].words.removeprefix("BASE="))
    if docker("image", "inspect", base).returncode and docker("pull", "-q", base).returncode:
        missing(f"the image {base}")
    name = f"caravan-test:{uuid.uuid4().hex[:12]}"
    made = docker("build", "--build-arg", f"BASE={base}", "--build-arg", f"VERSION={__version__}", "-t", name, ".")
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    yield name
    docker("image", "rm", "-f", name)


def test_the_image_does_the_main_job_read_only(image: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    tmp_path.chmod(0o755)
    fenced = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--init")
    volume = f"caravan-test-{uuid.uuid4().hex[:12]}"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        mounts = ("-v", f"{volume}:/state", "-v", f"{tmp_path}:/repo:ro")
        return subprocess.run(
            ["docker", "run", "--rm", *fenced, *mounts, image, *words], capture_output=True, text=True, check=False
        )

    try:
        assert __version__ in run("--version").stdout
        words = ("--prompt", "Train it for 2 epochs", "--codebase-path", "/repo", "--cluster", "local", "--yes")
        done = run(*words, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "succeeded"
        told = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=True)
        (about,) = json.loads(told.stdout)
        assert about["Config"]["Labels"]["org.opencontainers.image.version"] == __version__
        assert about["Config"]["User"] == "1000:1000"
    finally:
        subprocess.run(["docker", "volume", "rm", "-f", volume], capture_output=True, check=False)


def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


@pytest.mark.parametrize("service", composed()["services"])
def test_each_service_is_fenced(service: str) -> None:
    about = composed()["services"][service]
    assert about["read_only"] is True
    assert about["cap_drop"] == ["ALL"]
    assert about["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in about
    assert all(port.startswith("127.0.0.1:") for port in about.get("ports", ()))
    assert not any("docker.sock" in volume for volume in about["volumes"])


def test_images_are_pinned_and_of_the_usual_registry() -> None:
    for name, about in composed()["services"].items():
        if name == "caravan":
            assert about["build"]["args"]["BASE"].endswith(f":-{steps()[0].words.removeprefix('BASE=')}}}")
            continue
        image, _, tag = about["image"].partition(":")
        assert "." not in image.split("/")[0], image  # a host
        assert tag.removeprefix("v")[0].isdigit(), tag
    client = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if "qdrant-client" in line)
    assert f":v{client.partition('==')[2]}-" in composed()["services"]["qdrant"]["image"]


def test_no_secret_stands_in_the_compose_file() -> None:
    document = composed()
    for about in document["services"].values():
        assert [
            n for n in about.get("environment", {}) if any(w in n for w in ("TOKEN", "KEY")) or n.endswith("WORD")
        ] == []
    names = {file["path"] for about in document["services"].values() for file in about.get("env_file", ())}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"/{name}" for name in names} | {"/secrets/"} <= set(ignored)
    assert document["secrets"]["postgres_password"]["file"].startswith("${CARAVAN_SECRETS:-./secrets}/")


def test_what_is_named_is_there() -> None:
    document = composed()
    for about in document["services"].values():
        named = [volume.split(":")[0] for volume in about["volumes"]]
        assert {name for name in named if not name.startswith(("$", ".", "/"))} <= set(document["volumes"])
        assert set(about.get("secrets", ())) <= set(document["secrets"])
        assert set(about.get("depends_on", {})) <= set(document["services"])
