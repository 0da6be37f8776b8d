"""Send plan of a broadcast (when, how fast, under which name), checked before anything is created."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from telewarm import clock, coercion
from telewarm.bots.sessions import BotSession
from telewarm.database.broadcasts import IdempotencyKey
from telewarm.errors import UsageError
from telewarm.models import MessageSet

MAX_PAST = timedelta(minutes=1)  # a start time less than this ago means now
MAX_KEY_CHARACTERS = 200  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class SendPlan:
    """`gate`: wait until all media are ready. `per_second`: maximum of messages a second."""

    name: str | None = None
    gate: bool = True
    per_second: float | None = None
    starts_at: datetime | None = None


def check_plan(bots: Sequence[BotSession], plan: SendPlan) -> None:
    """Check a plan, except whether its start time has passed. Raises UsageError."""
    if not isinstance(plan, SendPlan):
        raise UsageError(f"plan must be a Plan, not {coercion.describe_value(plan)}")
    if not bots:
        raise UsageError("bots is empty: a broadcast needs a bot; name at least one")
    if len({session.bot.id for session in bots}) < len(bots):
        raise UsageError("a bot is named twice; name each once")
    if "\0" in (coercion.text("name", plan.name) or ""):
        raise UsageError("name has the character U+0000 in it; leave it out")
    coercion.flag("gate", plan.gate)
    if plan.per_second is not None and not coercion.is_rate(plan.per_second):
        shown = coercion.describe_value(plan.per_second)
        raise UsageError(f"per_second is {shown}; give a number above 0, or none to use the bot's own limits")
    check_zone(plan.starts_at)


def check_zone(starts_at: datetime | None) -> None:
    """Raise UsageError for a start time without a time zone."""
    if starts_at is not None and not isinstance(starts_at, datetime):
        raise UsageError(f"starts_at must be a datetime with a time zone, not {coercion.describe_value(starts_at)}")
    if starts_at is not None and starts_at.tzinfo is None:
        raise UsageError(
            f"starts_at is {starts_at.isoformat()}, in no time zone; add one, as in {starts_at.isoformat()}Z"
        )


def check_time(starts_at: datetime | None) -> None:
    """Raise UsageError for a start time without a time zone, or one that has passed."""
    check_zone(starts_at)
    if starts_at is not None and starts_at < clock.now() - MAX_PAST:
        raise UsageError(
            f"{starts_at.isoformat(timespec='minutes')} has passed; give a time in the future, or none to start now"
        )


def key_of(key: str, bots: Sequence[BotSession], message: MessageSet, plan: SendPlan) -> IdempotencyKey:
    """Return the idempotency key with its fingerprint. Raises UsageError for a malformed key."""
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
        raise UsageError(f"an idempotency key has 1 to {MAX_KEY_CHARACTERS} printable characters, such as a UUID")
    id_key = [[session.bot.id for session in bots], message, plan.name, plan.gate, plan.per_second, plan.starts_at]
    return IdempotencyKey(
        text=key, request_hash=sha256(msgspec.json.encode(id_key, enc_hook=str, order="sorted")).digest()
    )
