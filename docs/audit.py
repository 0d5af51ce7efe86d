"""Looks for known vulnerabilities of pinned dependencies, and says plainly what could not be looked up.

    python docs/audit.py constraints.txt

pip-audit asks the package index's own database. It ends well where that knows none of the packages: no mirror has the
database. Then nothing was audited, and that is said and is the exit code. Exit codes: 0 all were looked up and nothing
is known against them, 1 something is, 5 the database was not reached, or not for all of them.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

_TIMEOUT_S: Final = 20
_SHOWN: Final = 10  # packages that are named


def verdict(document: Any) -> tuple[int, str]:
    """The exit code and what is said, of pip-audit's JSON."""
    rows = document["dependencies"]
    skipped = [row["name"] for row in rows if "skip_reason" in row]
    known = [(row, vuln) for row in rows for vuln in row.get("vulns", ())]
    lines = [
        f"{row['name']} {row['version']}: {vuln['id']}"
        + (f", fixed in {', '.join(vuln['fix_versions'])}" if vuln["fix_versions"] else ", no fix yet")
        for row, vuln in known
    ]
    looked = len(rows) - len(skipped)
    lines.append(f"{looked} of {len(rows)} packages were looked up; {len(known)} vulnerabilities are known of them.")
    if skipped:
        names = ", ".join(skipped[:_SHOWN]) + (", ..." if len(skipped) > _SHOWN else "")
        lines.append(f"Not audited: {len(skipped)}, since the index's database does not answer for them: {names}")
    return (1 if known else 5 if skipped or not rows else 0), "\n".join(lines)


def main(files: Sequence[str]) -> int:
    """Audit those files of pins; the exit code comes back."""
    words = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
    words += ["--timeout", str(_TIMEOUT_S), "--format", "json"]
    for file in files:
        words += ["--requirement", file]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        code, said = verdict(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        code, said = 5, f"Nothing was audited: pip-audit ended with exit code {done.returncode} ({last[:300]})."
    print(said)
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or ["constraints.txt"]))
