"""Applies a flood wait to the limiter, and counts it."""

from __future__ import annotations

from telewarm import metrics
from telewarm.errors import FloodWait
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause, Permit
from telewarm.metrics import FloodScope
from telewarm.telegram.error_patterns import is_slow_mode


def settle_flood(limiter: BotRateLimiter, permit: Permit, wait: FloodWait, *, now: float) -> FloodPause | None:
    """Apply a flood wait. What it closed, for other processes to obey; None: a size of upload, which concerns us alone.

    A slow mode is the chat owner's: it closes that chat, and the limits that were learned stay as they are.
    """
    if not is_slow_mode(wait.description):
        return limiter.confirm(permit, now=now, retry_after=wait.retry_after)
    limiter.confirm(permit, now=now, retry_after=None)
    limiter.pause_chat(permit.chat_id, now + wait.retry_after)
    return FloodPause(chat_id=permit.chat_id, seconds=wait.retry_after)


def count_flood(pause: FloodPause | None, seconds: float) -> None:
    """Count a 429 by what it closed; None: a size of upload."""
    scope = FloodScope.SIZE if pause is None else FloodScope.BOT if pause.chat_id is None else FloodScope.CHAT
    metrics.flooded(scope, seconds)
