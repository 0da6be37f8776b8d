"""Media items as tables of the command line."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from telewarm.models import MediaId, MediaItem, MediaState


def state_text(item: MediaItem, claimed: Container[MediaId]) -> str:
    """Return the state, with an item that waits for its warm-up as queued."""
    return "queued" if item.state is MediaState.WARMING and item.id not in claimed else item.state.value


def items_table(items: Sequence[MediaItem], claimed: Container[MediaId]) -> Table:
    """Return the table of a list."""
    failed = any(item.last_error for item in items)
    table = Table("id", "kind", "state", "size", "name", *(["last error"] if failed else []), box=None, pad_edge=False)
    table.columns[3].justify = "right"
    table.columns[4].overflow = "fold"
    for item in items:
        cells = [str(item.id), item.kind, state_text(item, claimed), decimal(item.facts.bytes)]
        table.add_row(*cells, Text(item.name or ""), *([Text(item.last_error or "")] if failed else []))
    return table


def item_facts(item: MediaItem, state: str) -> Iterator[tuple[str, object]]:
    """Yield the label and the value of each line about one item."""
    facts = item.facts
    yield "media item", item.id
    yield "name", item.name
    yield "kind", item.kind
    yield "state", state
    yield "size", f"{decimal(facts.bytes)}, {facts.mime}"
    yield "sides", f"{facts.width} x {facts.height} pixels" if facts.width else None
    yield "duration", f"{facts.duration:,.1f} s" if facts.duration else None
    yield "title", facts.title
    yield "performer", facts.performer
    yield "added", f"{item.created_at.astimezone():%Y-%m-%d %H:%M:%S}"
    yield "warmed", item.warmed_at and f"{item.warmed_at.astimezone():%Y-%m-%d %H:%M:%S}, by {item.way}"
    yield "sent as", item.sent_kind if item.sent_kind != item.kind else None
    yield "file id", item.file_id
    yield "failed attempts", item.attempts or None
    yield "last error", item.last_error and f"{item.last_error_code} {item.last_error}"
    yield "SHA-256", item.sha256
    yield "stored at", item.storage_key
