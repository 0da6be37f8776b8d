"""Does Telegram answer at all? While it does not, nobody new is called but one at a time, and getMe goes before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from telewarm import background, clock
from telewarm.errors import FloodWait, TelewarmError
from telewarm.lanes import LiveBot
from telewarm.lanes.outage import Outage
from telewarm.model import ChatId

log = structlog.get_logger(__name__)

TOLERANCE = 5  # failures in a row, whatever the chat, that are no outage yet


class Weather:
    """A recipient whose call fails in an outage may be lost to us as `unknown`: the question costs nobody anything."""

    def __init__(self, live: LiveBot, *, on_change: Callable[[], None]) -> None:
        self._live = live
        self._on_change = on_change
        self._outage = Outage(tolerance=TOLERANCE)
        self._asking: asyncio.Task[None] | None = None
        self._answered = False
        self._trial: ChatId | None = None

    @property
    def bad(self) -> bool:
        return self._outage.lasts

    @property
    def looks_at(self) -> float:
        """When it is asked again, while it is bad."""
        return self._outage.over_at

    def places(self, most: int, *, now: float) -> int:
        """How many may be called now, at most `most`. Asks, when it is time."""
        if not self.bad:
            return most
        if self._trial is not None or now < self._outage.over_at:
            return 0
        if self._answered:
            return min(most, 1)
        if self._asking is None:
            self._asking = background.start(self._ask(), name="broadcast probe")
        return 0

    def takes(self, chat_ids: list[ChatId]) -> None:
        """They are called now."""
        if self.bad and chat_ids:
            self._trial, self._answered = chat_ids[0], False

    def worked(self, chat_id: ChatId) -> None:
        """Or was refused, in an answer."""
        if self._outage.lasts:
            log.info("[BROADCAST][OUTAGE][OVER]", bot=self._live.bot.slug)
        self._outage.passed()
        self._ended(chat_id)

    def failed(self, chat_id: ChatId, error: TelewarmError) -> None:
        self._ended(chat_id)
        if not isinstance(error, FloodWait):  # which may be our own
            self._failed(error)

    def passed_over(self, chat_id: ChatId) -> None:
        """It was not called after all."""
        self._ended(chat_id)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def _ended(self, chat_id: ChatId) -> None:
        if chat_id == self._trial:
            self._trial = None

    def _failed(self, error: TelewarmError) -> None:
        now, told = clock.monotonic(), self._outage.over_at
        if self._outage.failed(error, now=now, dice=random.random()) and self._outage.over_at > told:  # noqa: S311 (jitter)
            retry_in = round(self._outage.over_at - now, 1)
            log.warning("[BROADCAST][OUTAGE]", bot=self._live.bot.slug, error=error.message, retry_in_s=retry_in)

    async def _ask(self) -> None:
        try:
            await self._live.api.get_me()
        except TelewarmError as error:
            self._failed(error)  # one that is an answer ends the outage
        else:
            self._answered = True
        finally:
            self._asking = None
            self._on_change()
