"""Events: what happened, for whoever listens."""

from __future__ import annotations

from telewarm.database.migrations import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql(__file__)
