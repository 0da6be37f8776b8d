"""Wake-ups of bots whose lane does not run in this worker: kept until the lane was queued or runs elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from telewarm import clock
from telewarm.models import BotId

RECHECK_SECONDS = 0.15  # by then a lane that just ended has mostly left the queue and can be queued again
MAX_RECHECKS = 6  # of a woken bot whose lane is still in the queue; a lane that runs elsewhere was woken there


@dataclass(kw_only=True, slots=True)
class EndingLane:
    """A lane that has ended and still has its job. `woken`: work was announced since."""

    woken: bool = False


class WakeTracker:
    """Wake-ups of lanes that are not running in this worker."""

    def __init__(self) -> None:
        self._missed: dict[BotId, int] = {}  # bots that were woken, and the rechecks left
        self._ending: dict[BotId, EndingLane] = {}
        self._recheck = asyncio.Event()

    def request_recheck(self) -> None:
        """End the wait of `collect`."""
        self._recheck.set()

    def on_wake(self, bot_id: BotId, *, rechecks: int = MAX_RECHECKS) -> None:
        """Keep the wake-up of a bot whose lane does not run here."""
        if bot_id in self._ending:
            self._ending[bot_id].woken = True
        self._missed[bot_id] = rechecks
        self._recheck.set()

    def recheck_later(self, bot_id: BotId, *, rechecks: int) -> None:
        """Keep the wake-up of a bot whose lane could not be queued yet, unless another came meanwhile."""
        if rechecks > 0:
            self._missed.setdefault(bot_id, rechecks)
            self._recheck.set()

    @contextmanager
    def ending(self, bot_id: BotId) -> Iterator[EndingLane]:
        """Track wake-ups of a lane that has ended, until its job is given back."""
        lane = self._ending[bot_id] = EndingLane()
        try:
            yield lane
        finally:
            del self._ending[bot_id]

    async def collect(self, deadline: float, *, stop: asyncio.Event, running: Container[BotId]) -> dict[BotId, int]:
        """Bots that were woken while their lane was not running, with the rechecks left; none at the deadline."""
        if not await clock.wait(self._recheck, deadline - clock.monotonic()):
            return {}
        self._recheck.clear()
        if self._missed:
            await clock.wait(stop, RECHECK_SECONDS)
        missed, self._missed = self._missed, {}
        return {bot_id: rechecks for bot_id, rechecks in missed.items() if bot_id not in running}
