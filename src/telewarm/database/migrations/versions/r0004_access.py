"""Access: named API tokens and the audit log."""

from __future__ import annotations

from telewarm.database.migrations import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql(__file__)
