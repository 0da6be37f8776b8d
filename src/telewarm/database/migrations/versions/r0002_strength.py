"""The warm-up engine at full strength."""

from __future__ import annotations

from telewarm.database.migrations import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql(__file__)
