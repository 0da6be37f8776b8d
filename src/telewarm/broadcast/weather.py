"""Does Telegram answer at all? While it does not, nobody new is called but one at a time, and getMe goes before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from telewarm import background, clock
from telewarm.errors import FloodWait, TelewarmError
from telewarm.lanes import BotSession
from telewarm.lanes.outage import FailureCounter
from telewarm.model import ChatId

log = structlog.get_logger(__name__)

FAILURE_THRESHOLD = 5  # failures in a row, whatever the chat, that are no outage yet


class CircuitBreaker:
    """A recipient whose call fails in an outage may be lost to us as `unknown`: the question costs nobody anything."""

    def __init__(self, live: BotSession, *, on_change: Callable[[], None]) -> None:
        self._live = live
        self._on_change = on_change
        self._outage = FailureCounter(tolerance=FAILURE_THRESHOLD)
        self._probe: asyncio.Task[None] | None = None
        self._probe_succeeded = False
        self._trial_chat: ChatId | None = None

    @property
    def is_open(self) -> bool:
        return self._outage.is_open

    @property
    def next_probe_at(self) -> float:
        """When it is asked again, while it is bad."""
        return self._outage.retry_at

    def allowed(self, most: int, *, now: float) -> int:
        """How many may be called now, at most `most`. Asks, when it is time."""
        if not self.is_open:
            return most
        if self._trial_chat is not None or now < self._outage.retry_at:
            return 0
        if self._probe_succeeded:
            return min(most, 1)
        if self._probe is None:
            self._probe = background.start(self._run_probe(), name="broadcast probe")
        return 0

    def on_admitted(self, chat_ids: list[ChatId]) -> None:
        """They are called now."""
        if self.is_open and chat_ids:
            self._trial_chat, self._probe_succeeded = chat_ids[0], False

    def succeeded(self, chat_id: ChatId) -> None:
        """Or was refused, in an answer."""
        if self._outage.is_open:
            log.info("[BROADCAST][OUTAGE][OVER]", bot=self._live.bot.slug)
        self._outage.succeeded()
        self._end_trial(chat_id)

    def failed(self, chat_id: ChatId, error: TelewarmError) -> None:
        self._end_trial(chat_id)
        if not isinstance(error, FloodWait):  # which may be our own
            self._failed(error)

    def not_called(self, chat_id: ChatId) -> None:
        """It was not called after all."""
        self._end_trial(chat_id)

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])

    def _end_trial(self, chat_id: ChatId) -> None:
        if chat_id == self._trial_chat:
            self._trial_chat = None

    def _failed(self, error: TelewarmError) -> None:
        now, told = clock.monotonic(), self._outage.retry_at
        if self._outage.failed(error, now=now, dice=random.random()) and self._outage.retry_at > told:  # noqa: S311 (jitter)
            retry_in = round(self._outage.retry_at - now, 1)
            log.warning("[BROADCAST][OUTAGE]", bot=self._live.bot.slug, error=error.message, retry_in_s=retry_in)

    async def _run_probe(self) -> None:
        try:
            await self._live.api.get_me()
        except TelewarmError as error:
            self._failed(error)  # one that is an answer ends the outage
        else:
            self._probe_succeeded = True
        finally:
            self._probe = None
            self._on_change()
