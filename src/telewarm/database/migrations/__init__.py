"""Alembic's folder. Each migration is plain SQL in a file of its own, beside the revision that runs it."""

from __future__ import annotations

from pathlib import Path

from alembic import op


def run_sql(revision_file: str) -> None:
    """Run the `.sql` file of the revision's name as it stands: no binds, no escapes."""
    op.get_context().impl.static_output(Path(revision_file).with_suffix(".sql").read_text(encoding="utf-8"))
