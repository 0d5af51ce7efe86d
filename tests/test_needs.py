"""What tests need of the machine, and that CI asks for all of it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).resolve().parents[1]
STATUS = "#!/bin/sh\n[ -e {there} ] && echo installed || exit 1\n"
APT = """#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> {log}
[ "${{*#* update*}}" = "$*" ] || exit {update}
touch {there}
"""
ID = "#!/bin/sh\necho {uid}\n"
SUDO = '#!/bin/sh\n[ {allowed} = yes ] || exit 1\nshift\nexec "$@"\n'


@pytest.mark.parametrize("need", ["postgresql", "chromium"])
def test_what_is_demanded_and_missing_fails(need: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(needs, "_POSTGRES", tmp_path)
    monkeypatch.setattr(needs, "_DEMANDED", frozenset({need}))
    with pytest.raises(pytest.fail.Exception, match=f"{need} is not here"):
        getattr(needs, need)()
    monkeypatch.setattr(needs, "_DEMANDED", frozenset())
    with pytest.raises(pytest.skip.Exception, match=f"{need} is not here"):
        getattr(needs, need)()


def test_the_newest_server_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "_POSTGRES", tmp_path)
    for version in ("9.6", "15", "16"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    assert needs.postgresql() == tmp_path / "16" / "bin"


class Machine:
    """The programs that `.ci/packages` calls, played: dpkg-query, apt-get, id, sudo."""

    def __init__(self, folder: Path, *, uid: int, sudo: bool = False, update: int = 0) -> None:
        self.folder, self.log = folder, folder / "log"
        there = folder / "there"
        self._put("dpkg-query", STATUS.format(there=there))
        self._put("apt-get", APT.format(log=self.log, there=there, update=update))
        self._put("id", ID.format(uid=uid))
        self._put("sudo", SUDO.format(allowed="yes" if sudo else "no"))
        self._put("sleep", "#!/bin/sh\n")
        self._put("mkdir", "#!/bin/sh\n")
        self._put("tee", f"#!/bin/sh\ncat > {folder}/clusters\n")

    def _put(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def install(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ROOT / ".ci" / "packages")],
            env={"PATH": f"{self.folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.mark.parametrize(("uid", "sudo"), [(0, False), (1000, True)])
def test_ci_installs_what_is_missing_and_asks_nothing(uid: int, sudo: bool, tmp_path: Path) -> None:
    machine = Machine(tmp_path, uid=uid, sudo=sudo)
    assert machine.install().returncode == 0
    (install,) = [line for line in machine.asked() if " install " in line]
    assert install.startswith("noninteractive ")
    assert "-y --no-install-recommends postgresql chromium fonts-dejavu-core" in install
    before = machine.asked()
    assert machine.install().returncode == 0
    assert machine.asked() == before  # it is there now


def test_lists_that_can_not_be_had_are_tried_again_and_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path, uid=0, update=100)
    done = machine.install()
    assert done.returncode == 0
    assert "the lists of packages are not fresh" in done.stderr
    assert len([line for line in machine.asked() if " update" in line]) == 3
    assert len([line for line in machine.asked() if " install " in line]) == 1


def test_without_rights_it_is_told_what_is_left_out(tmp_path: Path) -> None:
    machine = Machine(tmp_path, uid=1000)
    done = machine.install()
    assert done.returncode == 0
    assert done.stderr.startswith("not installed: postgresql chromium fonts-dejavu-core (that takes root")
    assert machine.asked() == []


def test_without_apt_it_is_told_what_is_left_out(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "sed"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    done = subprocess.run(
        [str(tmp_path / "bash"), str(ROOT / ".ci" / "packages")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[-1].endswith("(there is no apt-get here)")) == (0, True)


def test_ci_demands_all_that_tests_can_miss() -> None:
    line = next(line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "CARAVAN_TEST_NEEDS" in line)
    assert line.split("=")[1].split()[0].split(",") == ["postgresql", "chromium"]
