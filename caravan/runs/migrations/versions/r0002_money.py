"""Revision 0002: who a run belongs to, what was spent on which day, what is reserved, what runs were seen to need."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column and the tables; what earlier runs have cost counts for the day on which they began."""
    op.add_column("runs", sa.Column("user", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "spending",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("usd", sa.Float, nullable=False),
        sa.Column("until", sa.DateTime, nullable=False),
    )
    op.create_index("ix_spending_day", "spending", ["day"])
    op.create_table(
        "reservations",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("usd", sa.Float, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "measurements",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("ix_measurements_model", "measurements", ["model"])
    op.create_index("ix_measurements_family", "measurements", ["family", "method"])
    op.execute(
        "INSERT INTO spending (run_id, day, user, usd, until) "
        "SELECT id, substr(created_at, 1, 10), '', cost_usd, created_at FROM runs WHERE cost_usd > 0"
    )
