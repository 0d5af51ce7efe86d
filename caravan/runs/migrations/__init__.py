"""The migrations that make the database's tables, in order, as Alembic revisions in `versions/`.

A released revision is never edited; a change of the tables adds one and moves `HEAD` in `caravan/runs/migrating.py`.
"""
