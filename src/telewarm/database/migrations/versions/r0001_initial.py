"""The initial schema."""

from __future__ import annotations

from telewarm.database.migrations import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the schema."""
    run_sql(__file__)
