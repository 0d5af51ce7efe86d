"""The dependencies: what is said of an audit that could not be made, and the bill of materials."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "docs" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name: str, *ids: str, **more: Any) -> dict[str, Any]:
    if more:
        return {"name": name, **more}
    return {"name": name, "version": "1.0", "vulns": [{"id": i, "fix_versions": ["1.1"]} for i in ids]}


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ([row("a"), row("b")], 0, "2 of 2 packages were looked up; 0 vulnerabilities"),
        ([row("a", "PYSEC-1", "CVE-2"), row("b")], 1, "a 1.0: PYSEC-1, fixed in 1.1"),
        ([row("a"), row("b", skip_reason="not found")], 5, "Not audited: 1, since the index's database"),
        ([row("a", "PYSEC-1"), row("b", skip_reason="not found")], 1, "1 of 2 packages were looked up"),
        ([row("a", skip_reason="not found")], 5, "0 of 1 packages were looked up"),
        ([], 5, "0 of 0"),
    ],
)
def test_an_audit_says_what_it_did_not_look_up(
    audit: ModuleType, rows: list[dict[str, Any]], code: int, said: str
) -> None:
    found, text = audit.verdict({"dependencies": rows})
    assert (found, said in text) == (code, True), text


def test_an_index_that_does_not_answer_is_no_clean_audit(audit: ModuleType, tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("no-such-package-of-anybody ==\n")  # pip-audit can't read it, or is not there at all
    words = [sys.executable, str(ROOT / "docs" / "audit.py"), str(pins)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stdout.startswith("Nothing was audited: pip-audit ended with exit code ")


def pins(*names: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        for line in (ROOT / name).read_text().splitlines():
            text = line.partition("#")[0].strip()
            if text and not text.startswith("-"):
                one = Requirement(text)
                found[canonicalize_name(one.name)] = str(one.specifier).removeprefix("==")
    return found


def test_what_is_required_is_locked_at_the_same_version() -> None:
    locked = pins("constraints.txt")
    asked = pins("requirements.txt", "requirements-dev.txt", "requirements-optimize.txt")
    assert {name: version for name, version in asked.items() if locked.get(name) != version} == {}


def test_the_bill_of_materials_names_every_requirement_with_its_version_and_licence(tmp_path: Path) -> None:
    if importlib.util.find_spec("cyclonedx_py") is None:
        pytest.skip("cyclonedx-bom is not here: `make setup` installs it")
    bill = tmp_path / "bill.json"
    # As `make sbom` does, of this environment; checked here and not by the tool, which takes a minute for it.
    words = [sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate", "--output-reproducible"]
    subprocess.run([*words, "--of", "JSON", "-o", str(bill), sys.executable], check=True, capture_output=True)
    document = json.loads(bill.read_text())
    assert document["bomFormat"] == "CycloneDX"
    parts: dict[str, Any] = {canonicalize_name(part["name"]): part for part in document["components"]}
    for name, version in pins("requirements.txt").items():
        assert parts[name]["version"] == version
        assert parts[name]["purl"].startswith(f"pkg:pypi/{name}@")
    licensed = [name for name in pins("requirements.txt") if parts[name].get("licenses")]
    assert len(licensed) > 0.9 * len(pins("requirements.txt"))
