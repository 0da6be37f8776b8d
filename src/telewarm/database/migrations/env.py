"""Alembic runs this: it writes the migrations as one SQL script, which `telewarm.database.migrate` executes."""

from __future__ import annotations

from alembic import context

context.configure(dialect_name="postgresql")
with context.begin_transaction():
    context.run_migrations()
