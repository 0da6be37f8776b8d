"""Sending: the chat ledger, idempotency keys, broadcasts."""

from __future__ import annotations

from telewarm.database.migrations import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql(__file__)
