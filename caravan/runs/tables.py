"""The database's tables as SQLAlchemy Core sees them. The migrations make them; a test compares the two.

Columns hold what is searched, sorted or summed; the whole value stands beside them as JSON, so that a new field of
a value needs no migration. Times are UTC. This module must not open a database.
"""

from typing import Final

import sqlalchemy as sa

from caravan.runs.columns import AnyText, UtcTime

metadata: Final = sa.MetaData()


runs: Final = sa.Table(
    "runs",
    metadata,
    sa.Column("id", AnyText, primary_key=True),
    sa.Column("created_at", UtcTime, nullable=False, index=True),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("status", AnyText, nullable=False, index=True),
    sa.Column("node", AnyText, nullable=False),
    sa.Column("detail", AnyText, nullable=False),
    sa.Column("cost_usd", sa.Float, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("user", AnyText, nullable=False, server_default=""),
)

deployments: Final = sa.Table(
    "deployments",
    metadata,
    sa.Column("job_id", AnyText, primary_key=True),
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", AnyText, nullable=False, index=True),
    sa.Column("spec_sha256", AnyText, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
)

events: Final = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sa.Column("kind", AnyText, nullable=False),
    sa.Column("text", AnyText, nullable=False),
    # The text's digest stands in the unique key for the text, which may be long.
    sa.Column("text_sha256", AnyText, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.UniqueConstraint("run_id", "at", "kind", "text_sha256", name="uq_events_once"),
)

# What was spent on which day (UTC). It outlives its run: a limit of the month is not lifted by deleting runs.
spending: Final = sa.Table(
    "spending",
    metadata,
    sa.Column("run_id", AnyText, primary_key=True),
    sa.Column("day", AnyText, primary_key=True),
    sa.Column("user", AnyText, nullable=False),
    sa.Column("usd", sa.Float, nullable=False),
    sa.Column("until", UtcTime, nullable=False),
    sa.Index("ix_spending_day", "day"),
)

# What a run may spend in all, what it has spent included; it counts while the run is running.
reservations: Final = sa.Table(
    "reservations",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("usd", sa.Float, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
)

# What runs were seen to need. It outlives its run as well.
measurements: Final = sa.Table(
    "measurements",
    metadata,
    sa.Column("id", AnyText, primary_key=True),
    sa.Column("run_id", AnyText, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("model", AnyText, nullable=False),
    sa.Column("family", AnyText, nullable=False),
    sa.Column("method", AnyText, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("ix_measurements_model", "model"),
    sa.Index("ix_measurements_family", "family", "method"),
)

# What runs came to, and the same figures as rows, so that they can be searched.
results: Final = sa.Table(
    "results",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("ended_at", UtcTime, nullable=False, index=True),
    sa.Column("family", AnyText, nullable=False, index=True),
    sa.Column("document", sa.JSON, nullable=False),
)

result_metrics: Final = sa.Table(
    "result_metrics",
    metadata,
    sa.Column("run_id", sa.ForeignKey("results.run_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", AnyText, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Index("ix_result_metrics_name", "name", "value"),
)

# Registered models. They outlive their runs, so `run_id` is no foreign key. The stage stands in its column alone.
models: Final = sa.Table(
    "models",
    metadata,
    sa.Column("name", AnyText, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("run_id", AnyText, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False, index=True),
    sa.Column("stage", AnyText, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("uq_models_run_id", "run_id", unique=True),
)
# The database itself keeps a second version of a name out of production.
sa.Index(
    "uq_models_production",
    models.c.name,
    unique=True,
    sqlite_where=models.c.stage == "production",  # PostgreSQL's is in the migration: naming it here loads its dialect
)

model_metrics: Final = sa.Table(
    "model_metrics",
    metadata,
    sa.Column("model", AnyText, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", AnyText, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.ForeignKeyConstraint(["model", "version"], ["models.name", "models.version"], ondelete="CASCADE"),
    sa.Index("ix_model_metrics_name", "name", "value"),
)

stage_moves: Final = sa.Table(
    "stage_moves",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", AnyText, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("before", AnyText),
    sa.Column("after", AnyText, nullable=False),
    sa.Column("by", AnyText, nullable=False),
    sa.Column("why", AnyText, nullable=False),
    sa.ForeignKeyConstraint(["model", "version"], ["models.name", "models.version"], ondelete="CASCADE"),
    sa.Index("ix_stage_moves_model", "model", "version"),
)

# What the names of metrics mean: unit, direction, type. The newest word stands.
metric_definitions: Final = sa.Table(
    "metric_definitions",
    metadata,
    sa.Column("name", AnyText, primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
)
