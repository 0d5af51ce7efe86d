"""Revision 0002: who a run belongs to, what was spent on which day, what is reserved, what runs were seen to need."""

import sqlalchemy as sa
from alembic import op

from caravan.runs.migrations.columns import TEXT

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column and the tables; what earlier runs have cost counts for the day on which they began."""
    op.add_column("runs", sa.Column("user", TEXT, nullable=False, server_default=""))
    op.create_table(
        "spending",
        sa.Column("run_id", TEXT, primary_key=True),
        sa.Column("day", TEXT, primary_key=True),
        sa.Column("user", TEXT, nullable=False),
        sa.Column("usd", sa.Float, nullable=False),
        sa.Column("until", sa.DateTime, nullable=False),
    )
    op.create_index("ix_spending_day", "spending", ["day"])
    op.create_table(
        "reservations",
        sa.Column("run_id", TEXT, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("usd", sa.Float, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "measurements",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("family", TEXT, nullable=False),
        sa.Column("method", TEXT, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("ix_measurements_model", "measurements", ["model"])
    op.create_index("ix_measurements_family", "measurements", ["family", "method"])
    runs = sa.table("runs", *map(sa.column, ("id", "created_at", "cost_usd")))
    names = ["run_id", "day", "user", "usd", "until"]
    day = sa.func.substr(runs.c.created_at, 1, 10)  # SQLite keeps times as text
    if op.get_bind().dialect.name == "postgresql":
        day = sa.func.to_char(runs.c.created_at, "YYYY-MM-DD")
    cost = sa.select(runs.c.id, day, sa.literal_column("''"), runs.c.cost_usd, runs.c.created_at)
    spending = sa.table("spending", *map(sa.column, names))
    op.execute(spending.insert().from_select(names, cost.where(runs.c.cost_usd > 0)))
