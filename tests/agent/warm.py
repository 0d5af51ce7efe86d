"""Imported once by the process from which the killed ones are forked: does what each would do first.

The modules are imported, the grammar of job files is built, the memory's libraries are loaded.
"""

import importlib
import tempfile
from contextlib import closing
from pathlib import Path

from caravan.hcl import parse_hcl
from caravan.values.failure import Lesson
from config import prepare_third_party_environment
from machine import SystemClock
from memory import Mem0Memory

for _name in (
    "alembic.migration",
    "jinja2",
    "caravan.cluster.local.control",
    "caravan.cluster.nomad",
    "caravan.runs.report",
    "caravan.runs.store",
    "tests.agent.killing",
):
    importlib.import_module(_name)

parse_hcl('job "x" {}')
with tempfile.TemporaryDirectory() as _folder:
    prepare_third_party_environment(Path(_folder))
    with closing(Mem0Memory(Path(_folder) / "memory", clock=SystemClock())) as _memory:
        _memory.remember(Lesson(text="warm"))
