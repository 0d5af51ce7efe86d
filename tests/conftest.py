"""What every test starts from: an environment without the user's settings, and strict checkpoints."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import needs

if TYPE_CHECKING:
    from caravan.values.database import DatabaseAddress
    from tests.fakes.postgres import PostgresServer

# Read by LangGraph when it is imported: a type that checkpoints don't know is an error, not a warning.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"

# Agents, clusters and commands are started by the hundred: each would compile anew what it imports, where the machine
# that runs the tests asks for no bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_OURS = ("CARAVAN_", "NOMAD_", "QDRANT_", "LANGFUSE_", "LANGSMITH_", "LANGCHAIN_", "HF_", "OPENAI_", "MEM0_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def _scrubbed_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests reaches them, and nothing is written to their state directory."""
    for name in list(os.environ):
        if name.startswith(_OURS) or name == "DATABASE_URL" or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("CARAVAN_HOME", str(tmp_path / "caravan-home"))
    monkeypatch.setenv("CARAVAN_LOOK_UP", "0")  # no index and no registry is asked but those that a test makes
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["PostgresServer"]:
    """A PostgreSQL server for these tests, where its programs are installed."""
    programs = needs.postgresql()
    from tests.fakes.postgres import PostgresServer

    server = PostgresServer(programs)
    yield server
    server.close()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: "PostgresServer") -> str:
    """A database at the newest schema, from which others are made quicker than by migrating each."""
    from caravan.runs.database import open_database
    from tests.fakes.clock import FakeClock

    name = postgres_server.database()
    open_database(postgres_server.address(name), FakeClock()).close()
    return name


@pytest.fixture
def empty_postgres(postgres_server: "PostgresServer") -> Iterator["DatabaseAddress"]:
    """The address of an empty database."""
    name = postgres_server.database()
    yield postgres_server.address(name)
    postgres_server.drop(name)


@pytest.fixture
def postgres(postgres_server: "PostgresServer", migrated_template: str) -> Iterator["DatabaseAddress"]:
    """The address of a database at the newest schema."""
    name = postgres_server.database(template=migrated_template)
    yield postgres_server.address(name)
    postgres_server.drop(name)
