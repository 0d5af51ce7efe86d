"""Revision 0001: runs, deployments and events. It spells out its tables, so that later ones don't change it."""

import sqlalchemy as sa
from alembic import op

from caravan.runs.migrations.columns import TEXT

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the three tables and their indexes."""
    op.create_table(
        "runs",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("node", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("cost_usd", sa.Float, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
    )
    op.create_index("ix_runs_created_at", "runs", ["created_at"])
    op.create_index("ix_runs_status", "runs", ["status"])
    op.create_table(
        "deployments",
        sa.Column("job_id", TEXT, primary_key=True),
        sa.Column("run_id", TEXT, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("spec_sha256", TEXT, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("ix_deployments_run_id", "deployments", ["run_id"])
    op.create_index("ix_deployments_state", "deployments", ["state"])
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", TEXT, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("text_sha256", TEXT, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.UniqueConstraint("run_id", "at", "kind", "text_sha256", name="uq_events_once"),
    )
    op.create_index("ix_events_at", "events", ["at"])
