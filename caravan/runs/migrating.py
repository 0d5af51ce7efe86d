"""Bringing a database's tables to the newest revision: all of it or nothing, one process at a time.

The caller holds the lock and the transaction. Alembic is imported here alone, and only when something is missing;
SQLAlchemy too, so that who looks at a database can ask for its revision without.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from caravan.values.errors import StateError

if TYPE_CHECKING:
    import sqlalchemy as sa

HEAD: Final = "0003"
"""The newest revision in `migrations/versions/`; a test holds the two equal. At head Alembic is never imported."""

REVISION: Final = "SELECT version_num FROM alembic_version"
"""What asks a database for its schema's revision."""

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def revision_of(connection: sa.Connection) -> str | None:
    """The schema's revision; raises the driver's error where there is no table that says it."""
    found: str | None = connection.exec_driver_sql(REVISION).scalar()
    return found


def upgrade(connection: sa.Connection, shown: str) -> None:
    """Make what is missing of the tables. `shown` names the database. Raises StateError for one that is not ours."""
    import sqlalchemy as sa
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory
    from alembic.script.revision import RevisionError

    scripts = ScriptDirectory(str(_MIGRATIONS), version_locations=[str(_MIGRATIONS / "versions")])
    tables = set(sa.inspect(connection).get_table_names())
    context = MigrationContext.configure(connection)
    current = context.get_current_revision()
    if (current is None and tables) or (current is not None and not {"runs", "deployments"} <= tables):
        raise StateError(
            f"The database {shown} holds the tables of another program.",
            hint="Give Caravan one of its own: `createdb caravan`, or another file.",
        )
    try:
        missing = list(scripts.iterate_revisions(HEAD, current or "base"))
    except RevisionError as error:
        raise StateError(
            f"The database {shown} has schema {current}, which this version does not know.",
            hint="Update Caravan, or set CARAVAN_HOME or DATABASE_URL to another place.",
        ) from error
    with Operations.context(context):
        for revision in reversed(missing):
            revision.module.upgrade()
            context.stamp(scripts, revision.revision)
