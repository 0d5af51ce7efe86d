"""Databases of other versions: each older one is opened by this version with all that it holds, a newer one is refused.

An older one is made by the migrations up to its revision, with a run that has cost something, written through its own
tables. Both are then looked at as a user would: by the commands.
"""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from bench.endurance_kills import Tried
from bench.product import ROOT, environment
from caravan.runs import migrating
from caravan.runs.sqlite_file import SqliteFile

RUN = "0123abcd"
_COST_USD = 12.5
_REQUEST = {"prompt": "an older wish", "source": "/r", "cluster": "none"}
_NEWER = "9999"


def older(place: Path, tried: Tried) -> list[str]:
    """Databases of every revision but the newest, each opened; the revisions."""
    versions = Path(migrating.__file__).parent / "migrations" / "versions"
    revisions = sorted(path.name[1:5] for path in versions.glob("r[0-9]*.py"))
    for revision in revisions[:-1]:
        home = place / revision
        _written(home, revision)
        tried.runs += 1
        tried.found += [f"schema {revision}: {text}" for text in _judged(home)]
    return revisions[:-1]


def newer(place: Path, tried: Tried) -> None:
    """A database of a version to come: each command says so in a line, and leaves it as it is."""
    home = place / _NEWER
    _written(home, migrating.HEAD)
    with closing(sqlite3.connect(home / "caravan.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (_NEWER,))
    before = (home / "caravan.db").read_bytes()
    for words in (["runs"], ["show", RUN], ["delete", RUN, "--yes"]):
        tried.runs += 1
        done = _command(home, *words)
        clear = f"schema {_NEWER}" in done.stderr and "Update Caravan" in done.stderr
        if done.returncode == 0 or not clear or "Traceback" in done.stderr:
            tried.found.append(f"a newer database: `{' '.join(words)}` ended with {done.returncode}: {done.stderr!r}")
    if (home / "caravan.db").read_bytes() != before:
        tried.found.append("a newer database was changed")


def _written(home: Path, revision: str) -> None:
    """A database of that revision with a run."""
    home.mkdir(parents=True, mode=0o700)
    newest, migrating.HEAD = migrating.HEAD, revision  # type: ignore[misc]  # as that version had it
    try:
        SqliteFile(home / "caravan.db", 15).engine().dispose()
    finally:
        migrating.HEAD = newest  # type: ignore[misc]
    row = {"id": RUN, "created_at": "2026-01-01 00:00:00.000000", "updated_at": "2026-01-01 01:00:00.000000"}
    row |= {"status": "succeeded", "node": "report", "detail": "", "request": json.dumps(_REQUEST)}
    with closing(sqlite3.connect(home / "caravan.db")) as database, database:
        known = {column[1] for column in database.execute("PRAGMA table_info(runs)")}
        values = {**row, "cost_usd": _COST_USD} | ({"user": ""} if "user" in known else {})
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        database.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", tuple(values.values()))


def _judged(home: Path) -> list[str]:
    """What is wrong once this version has opened it. `runs --spending` needs the tables of the newest schema."""
    listed, spending, one = (
        _command(home, *words, "--json") for words in (["runs"], ["runs", "--spending"], ["show", RUN])
    )
    for done in (listed, spending, one):
        if done.returncode:
            return [f"ended with {done.returncode}: {done.stderr.strip()}"]
    found = []
    if [(run["run_id"], run["prompt"], run["cost_usd"]) for run in json.loads(listed.stdout)] != [
        (RUN, _REQUEST["prompt"], _COST_USD)
    ]:
        found.append(f"lost: its run is listed as {listed.stdout}")
    if [row["spent_usd"] for row in json.loads(spending.stdout)] != [_COST_USD]:
        found.append(f"money: {spending.stdout}")
    if json.loads(one.stdout)["cost_usd"] != _COST_USD:
        found.append(f"lost: its run is shown as {one.stdout}")
    with closing(sqlite3.connect(home / "caravan.db")) as database:
        if database.execute(migrating.REVISION).fetchone() != (migrating.HEAD,):
            found.append("was not brought to this version's schema")
    return found


def _command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "main.py", *words]
    return subprocess.run(command, cwd=ROOT, env=environment(home), check=False, capture_output=True, text=True)
