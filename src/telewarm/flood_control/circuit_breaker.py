"""Circuit breaker of a broadcast: while Telegram does not answer, one recipient at a time, each after a probe."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from telewarm import background, clock
from telewarm.errors import FloodWait, TelewarmError
from telewarm.flood_control.failure_counter import FailureCounter
from telewarm.models import ChatId

log = structlog.get_logger(__name__)

FAILURE_THRESHOLD = 5  # consecutive failures, in whatever chats, that open the circuit


class CircuitBreaker:
    """Protects recipients from an outage: a send that fails in one leaves its recipient `unknown`, a probe does not.

    `send_probe`: a call without effect (`getMe`) that raises TelewarmError. `slug`: of the bot, for the log.
    """

    def __init__(
        self, send_probe: Callable[[], Awaitable[object]], *, slug: str, on_change: Callable[[], None]
    ) -> None:
        self._send_probe = send_probe
        self._slug = slug
        self._on_change = on_change
        self._failures = FailureCounter(tolerance=FAILURE_THRESHOLD)
        self._probe: asyncio.Task[None] | None = None
        self._probe_succeeded = False
        self._trial_chat: ChatId | None = None

    @property
    def is_open(self) -> bool:
        """Whether Telegram is considered unavailable."""
        return self._failures.is_open

    @property
    def next_probe_at(self) -> float:
        """Time of the next probe while the circuit is open."""
        return self._failures.retry_at

    def allowed(self, most: int, *, now: float) -> int:
        """Return how many recipients may be called now, at most `most`. Starts a due probe."""
        if not self.is_open:
            return most
        if self._trial_chat is not None or now < self._failures.retry_at:
            return 0
        if self._probe_succeeded:
            return min(most, 1)
        if self._probe is None:
            self._probe = background.start(self._run_probe(), name="broadcast probe")
        return 0

    def on_admitted(self, chat_ids: list[ChatId]) -> None:
        """Note the recipients that are called now."""
        if self.is_open and chat_ids:
            self._trial_chat, self._probe_succeeded = chat_ids[0], False

    def succeeded(self, chat_id: ChatId) -> None:
        """Note an answer of Telegram, also a refusal, and close the circuit."""
        if self._failures.is_open:
            log.info("broadcast_circuit_closed", bot=self._slug)
        self._failures.succeeded()
        self._end_trial(chat_id)

    def failed(self, chat_id: ChatId, error: TelewarmError) -> None:
        """Note a failed call."""
        self._end_trial(chat_id)
        if not isinstance(error, FloodWait):  # a FloodWait may be of our own limiter
            self._count_failure(error)

    def not_called(self, chat_id: ChatId) -> None:
        """Note that an admitted recipient was not called."""
        self._end_trial(chat_id)

    async def close(self) -> None:
        """Cancel the probe."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])

    def _end_trial(self, chat_id: ChatId) -> None:
        if chat_id == self._trial_chat:
            self._trial_chat = None

    def _count_failure(self, error: TelewarmError) -> None:
        now, retry_at = clock.monotonic(), self._failures.retry_at
        if self._failures.failed(error, now=now, dice=random.random()) and self._failures.retry_at > retry_at:  # noqa: S311 (jitter)
            retry_in = round(self._failures.retry_at - now, 1)
            log.warning("broadcast_circuit_opened", bot=self._slug, error=error.message, retry_in_s=retry_in)

    async def _run_probe(self) -> None:
        try:
            await self._send_probe()
        except TelewarmError as error:
            self._count_failure(error)  # an error that is an answer closes the circuit
        else:
            self._probe_succeeded = True
        finally:
            self._probe = None
            self._on_change()
