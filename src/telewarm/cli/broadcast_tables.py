"""Broadcasts as tables: a page of them, and one with all that is known of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from telewarm import clock
from telewarm.broadcasts.progress import progress
from telewarm.cli import watching
from telewarm.models import Broadcast, BroadcastState, Cause
from telewarm.runtime import Telewarm

CHAT_PREFIX_PATTERN = re.compile(r"Telegram refused \w+ to chat -?\d+: ")
MAX_ERROR_CHARACTERS = 80  # characters of an error in a page of broadcasts


async def broadcasts_table(telewarm: Telewarm, broadcasts: Sequence[Broadcast]) -> Table:
    """A line each, with the most frequent error."""
    causes = await telewarm.broadcasts.causes([one.id for one in broadcasts], most=1)
    table = Table("id", "bot", "name", "state", "recipients", "done", "outcomes", "most frequent error", box=None)
    for one in broadcasts:
        slug = (await telewarm.bots.get(one.bot_id)).bot.slug
        percent = f"{progress(one, clock.now()).percent:g} %"
        scheduled = one.state is BroadcastState.SCHEDULED
        outcomes = watching.start_text(one) if scheduled else watching.describe_counts(one)
        error = "".join(f"{cause.count:,} x {CHAT_PREFIX_PATTERN.sub('', cause.error)}" for cause in causes[one.id])[
            :MAX_ERROR_CHARACTERS
        ]
        table.add_row(str(one.id), slug, one.name, one.state, f"{one.recipients:,}", percent, outcomes, Text(error))
    return table


async def broadcast_table(telewarm: Telewarm, broadcast: Broadcast) -> Table:
    """All of one, a fact a line."""
    slug = (await telewarm.bots.get(broadcast.bot_id)).bot.slug
    causes = (await telewarm.broadcasts.causes([broadcast.id]))[broadcast.id]
    return _facts(broadcast, slug, causes)


def _facts(one: Broadcast, slug: str, causes: Sequence[Cause]) -> Table:
    now = progress(one, clock.now())
    table = Table(box=None, show_header=False)
    facts: dict[str, object] = {
        "broadcast": one.id,
        "bot": slug,
        "name": one.name,
        "state": one.state,
        "reason": one.reason,
        "message": f"{len(one.message.media)} media" + (", text" if one.message.text else ""),
        "recipients": f"{one.recipients:,} ({one.duplicates:,} twice, {one.rejected:,} lines rejected)",
        "guess": one.guess,
        "done": f"{now.done:,} ({now.percent:g} %), {now.left:,} left, {one.in_flight:,} in flight",
        "outcomes": watching.describe_counts(one),
        "errors": "\n".join(map(watching.describe_cause, causes)) or None,
        "rate": None if now.per_second is None else f"{now.per_second:,.1f} recipients a second",
        "ends in": None if now.eta_seconds is None else f"{now.eta_seconds:,.0f} s",
        "not undone": f"{one.not_undone:,} messages" if one.not_undone else None,
        "starts": one.starts_at and one.starts_at.astimezone(),
        "made": one.created_at.astimezone(),
        "started": one.started_at and one.started_at.astimezone(),
        "ended": one.ended_at and one.ended_at.astimezone(),
    }
    for name, value in facts.items():
        if value is not None:
            table.add_row(name, Text(str(value)))
    return table
