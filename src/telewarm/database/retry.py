"""Retry of work while the database is unavailable, and work that may be left undone while it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from itertools import repeat
from types import TracebackType
from typing import TypeVar

import structlog

from telewarm import clock
from telewarm.database.transient import is_transient

log = structlog.get_logger(__name__)
T = TypeVar("T")

RETRY_SECONDS = 0.5  # between two attempts


async def retry_transient(
    work: Callable[[], Awaitable[T]], *, event: str, delays: Iterable[float] = repeat(RETRY_SECONDS), **fields: object
) -> T:
    """Repeat `work` after transient errors, each logged as `event` with `fields`. Cancel it to stop.

    `delays`: seconds after each failed attempt; when they are used up, a last attempt raises what it raises.
    """
    for delay in delays:
        try:
            return await work()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning(event, error=type(error).__name__, **fields)
        await clock.sleep(delay)
    return await work()


class log_transient(AbstractContextManager[None]):  # noqa: N801 - used like contextlib.suppress
    """Suppress a transient error of the database, and log it as `event` with `fields`."""

    def __init__(self, event: str, **fields: object) -> None:
        self._event = event
        self._fields = fields

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or not is_transient(error):
            return False
        log.warning(self._event, error=type(error).__name__, **self._fields)
        return True
