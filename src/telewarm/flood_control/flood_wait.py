"""Application of a 429: to the limiter, to the metrics and, by `on_pause`, to the other processes."""

from __future__ import annotations

from collections.abc import Callable

from telewarm import metrics
from telewarm.errors import FloodWait
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause, Permit
from telewarm.metrics import FloodScope
from telewarm.models import ChatId
from telewarm.telegram.responses import is_slow_mode

OnPause = Callable[[FloodPause], None]


def apply_flood_wait(
    limiter: BotRateLimiter, permit: Permit, wait: FloodWait, *, now: float, on_pause: OnPause
) -> None:
    """Confirm the permit of a call that got a 429. `on_pause` notifies the other processes.

    A 429 about an upload size pauses uploads of that size in this process alone. A slow mode is set by the chat's
    owner: it pauses that chat, and the learned limits stay as they are.
    """
    if is_slow_mode(wait.description):
        limiter.confirm(permit, now=now, retry_after=None)
        pause_chat(limiter, permit.chat_id, wait, now=now, on_pause=on_pause)
        return
    pause = limiter.confirm(permit, now=now, retry_after=wait.retry_after)
    if pause is None:
        metrics.flood_waited(FloodScope.SIZE, wait.retry_after)
    else:
        _tell(pause, on_pause)


def pause_chat(limiter: BotRateLimiter, chat_id: ChatId, wait: FloodWait, *, now: float, on_pause: OnPause) -> None:
    """Pause one chat without lowering a learned limit."""
    limiter.pause_chat(chat_id, now + wait.retry_after)
    _tell(FloodPause(chat_id=chat_id, seconds=wait.retry_after), on_pause)


def _tell(pause: FloodPause, on_pause: OnPause) -> None:
    metrics.flood_waited(FloodScope.BOT if pause.chat_id is None else FloodScope.CHAT, pause.seconds)
    on_pause(pause)
