"""Revision 0003: what runs came to, the registered models with their stages, and what metrics mean."""

import sqlalchemy as sa
from alembic import op

from caravan.runs.migrations.columns import TEXT

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the tables; runs that ended before have no result."""
    op.create_table(
        "results",
        sa.Column("run_id", TEXT, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("ended_at", sa.DateTime, nullable=False),
        sa.Column("family", TEXT, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("ix_results_ended_at", "results", ["ended_at"])
    op.create_index("ix_results_family", "results", ["family"])
    op.create_table(
        "result_metrics",
        sa.Column("run_id", TEXT, sa.ForeignKey("results.run_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
    )
    op.create_index("ix_result_metrics_name", "result_metrics", ["name", "value"])
    op.create_table(
        "models",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("stage", TEXT, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("ix_models_created_at", "models", ["created_at"])
    op.create_index("uq_models_run_id", "models", ["run_id"], unique=True)
    in_production = sa.text("stage = 'production'")
    op.create_index(
        "uq_models_production",
        "models",
        ["name"],
        unique=True,
        sqlite_where=in_production,
        postgresql_where=in_production,
    )
    op.create_table(
        "model_metrics",
        sa.Column("model", TEXT, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(["model", "version"], ["models.name", "models.version"], ondelete="CASCADE"),
    )
    op.create_index("ix_model_metrics_name", "model_metrics", ["name", "value"])
    op.create_table(
        "stage_moves",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("before", TEXT),
        sa.Column("after", TEXT, nullable=False),
        sa.Column("by", TEXT, nullable=False),
        sa.Column("why", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["model", "version"], ["models.name", "models.version"], ondelete="CASCADE"),
    )
    op.create_index("ix_stage_moves_model", "stage_moves", ["model", "version"])
    op.create_table(
        "metric_definitions",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
    )
