"""What the first trials in the field asked of the schema."""

from __future__ import annotations

from telewarm.database.migrations import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_sql(__file__)
