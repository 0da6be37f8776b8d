"""A bot's broadcasts on their way, in the place of its lane: some at once, the rest after them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

import structlog

from telewarm import clock
from telewarm.broadcast.desk import Desk, in_hand
from telewarm.broadcast.flight import Flight
from telewarm.broadcast.gate import Gate
from telewarm.broadcast.policy import cure
from telewarm.broadcast.share import Shares
from telewarm.broadcast.undo import Undo
from telewarm.database import broadcasts, flights
from telewarm.database.connection import Pool
from telewarm.database.flights import Active
from telewarm.database.leases import Lease
from telewarm.database.transient import is_transient
from telewarm.errors import NotFound, TelewarmError
from telewarm.lanes import LiveBot
from telewarm.model import Broadcast, BroadcastId, BroadcastState
from telewarm.sender import Sender

log = structlog.get_logger(__name__)

AT_ONCE = 4  # flights that have something to do
MOST_AT_ONCE = 64  # flights, with those that wait for a pause or a limit of their own
SLICE = 10.0  # seconds after which it makes room when other lanes wait for a place
LOOK = 1.0  # seconds between looks at what waits: for its media, for a place, for whoever else has it in hand
LONGEST = 300.0  # seconds of one wait for a start time
LAST = 2.0  # seconds to write down what is known, once it is cut short


class Deliveries:
    """Runs once, as a lane does. `on_sending`: called when a broadcast is taken in hand, and when it is let go."""

    def __init__(
        self,
        *,
        pool: Pool,
        lease: Lease,
        live: LiveBot,
        sender: Sender,
        stop: asyncio.Event,
        crowded: Callable[[], bool],
        concurrency: int,
        on_sending: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_sending = on_sending
        self._desk = Desk(
            pool=pool,
            lease=lease,
            live=live,
            sender=sender,
            shares=Shares(live.traffic),
            concurrency=concurrency,
        )
        self._stop = stop
        self._crowded = crowded
        self._gate = Gate(pool, live)
        self._changed = asyncio.Event()
        self._more = True  # something may be there to do that we have not seen
        self._flying: dict[BroadcastId, Flight | Undo] = {}
        self._tasks: dict[BroadcastId, asyncio.Task[None]] = {}
        self._ends: set[asyncio.TimerHandle] = set()
        self._started = clock.monotonic()
        self._again_at = math.inf

    @property
    def in_flight(self) -> int:
        """Recipients that are being called."""
        return sum(flying.in_flight for flying in self._flying.values())

    @property
    def held(self) -> int:
        """Recipients that are taken and not called yet."""
        return sum(flying.held for flying in self._flying.values())

    def nudge(self) -> None:
        """There is something new, or a reason to look up."""
        self._more = True
        self._changed.set()
        for flying in self._flying.values():
            flying.nudge()

    def abort(self) -> None:
        """Cut short what is in flight: its outcome is unknown. In a moment all of it ends, written down or not."""
        for flying in self._flying.values():
            flying.cut_short()
        loop = asyncio.get_running_loop()
        for task in self._tasks.values():
            self._ends.add(loop.call_later(LAST, task.cancel))

    async def run(self) -> float | None:
        """Seconds after which to run again, None when nothing is left.

        Lets what is in flight end; cancelled, it cuts that short.
        """
        try:
            delay = await self._manage()
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            await self._wind_down()
        return 0.0 if delay is None and self._more else delay

    async def _manage(self) -> float | None:
        while True:
            self._changed.clear()
            now = clock.monotonic()
            if self._stop.is_set() or (now - self._started > SLICE and self._crowded()):
                return 0.0
            if self._more or now >= self._again_at:
                await self._look()
            elif not self._tasks:
                if self._again_at == math.inf:
                    return None
                if self._again_at - now > LOOK or self._crowded():
                    return self._again_at - now
            await clock.wait(self._changed, self._until_next())

    def _until_next(self) -> float:
        """Crowds and schedules are looked at now and then."""
        if self._more:
            return 0.0
        if not self._tasks and self._again_at == math.inf:
            return 0.0
        return min(LOOK, self._again_at - clock.monotonic())

    async def _look(self) -> None:
        """Start what may start; `_again_at` is when to look again."""
        self._more, self._again_at = False, math.inf
        try:
            actives = await flights.active(self._desk.pool, self._desk.live.bot.id)
        except Exception as error:  # noqa: BLE001 - logged there
            self._failed_to_look(error)
            return
        for active in actives:
            if active.id not in self._tasks and not self._stop.is_set():
                try:
                    await self._begin(active)
                except Exception as error:  # noqa: BLE001 - logged there; it stops no other broadcast
                    self._failed_to_look(error, broadcast_id=active.id)

    def _failed_to_look(self, error: Exception, **facts: object) -> None:
        slug, bug = self._desk.live.bot.slug, not is_transient(error)
        log.warning("[BROADCAST][LOOK][RETRY]", bot=slug, error=type(error).__name__, exc_info=bug, **facts)
        self._look_in(LOOK)

    def _look_in(self, seconds: float) -> None:
        self._again_at = min(self._again_at, clock.monotonic() + min(seconds, LONGEST))

    async def _begin(self, active: Active) -> None:
        if active.starts_in > 0:
            self._look_in(active.starts_in)
            return
        if not self._has_room():
            self._look_in(LOOK)
            return
        try:
            broadcast = await broadcasts.get(self._desk.pool, active.id)
        except NotFound:
            return
        if broadcast.state is BroadcastState.SCHEDULED:
            await self._open(broadcast)
            return
        if broadcast.state is BroadcastState.UNDOING or await self._may_go(broadcast):
            task = asyncio.create_task(self._fly(broadcast), name=f"broadcast {broadcast.id}")
            self._tasks[broadcast.id] = task
            task.add_done_callback(lambda _: self._ended(broadcast.id))

    async def _open(self, broadcast: Broadcast) -> None:
        """Its time has come."""
        scheduled = [BroadcastState.SCHEDULED]
        if await broadcasts.set_state(self._desk.pool, broadcast.id, BroadcastState.RUNNING, only_from=scheduled):
            log.info("broadcast_begins", bot=self._desk.live.bot.slug, broadcast_id=broadcast.id)
        self._more = True

    def _has_room(self) -> bool:
        """One that waits for a pause or a limit of its own holds up no other."""
        resting = sum(flying.resting for flying in self._flying.values())
        return len(self._tasks) - resting < AT_ONCE and len(self._tasks) < MOST_AT_ONCE

    async def _may_go(self, broadcast: Broadcast) -> bool:
        if broadcast.state is not BroadcastState.RUNNING:
            return False
        try:
            if await self._gate.is_open(broadcast):
                return True
        except TelewarmError as error:
            reason = cure(error, broadcast.id)
            if await broadcasts.set_state(
                self._desk.pool,
                broadcast.id,
                BroadcastState.PAUSED,
                only_from=[BroadcastState.RUNNING],
                reason=reason,
            ):
                slug = self._desk.live.bot.slug
                log.warning("[BROADCAST][PAUSED]", bot=slug, broadcast_id=broadcast.id, reason=reason)
            return False
        self._look_in(LOOK)
        return False

    async def _fly(self, broadcast: Broadcast) -> None:
        try:
            with in_hand(self._desk.lease, broadcast.id) as ours:
                if not ours or not await self._take(broadcast):
                    self._look_in(LOOK)
                    return
                flying = self._flying[broadcast.id]
                self._on_sending()
                try:
                    await flying.run()
                finally:
                    self._on_sending()
        except Exception as error:
            if is_transient(error):
                log.warning("[BROADCAST][FLIGHT][RETRY]", broadcast_id=broadcast.id, error=type(error).__name__)
            else:
                log.exception("[BROADCAST][BUG]", broadcast_id=broadcast.id)
            self._look_in(LOOK)
        else:
            if isinstance(flying, Undo) and flying.again_in is not None:
                self._look_in(flying.again_in)
            else:
                self._more = True  # others may wait for its place, or it may have been resumed meanwhile

    async def _take(self, broadcast: Broadcast) -> bool:
        """Whether nobody else has it."""
        lease_id = self._desk.lease.id
        taken = await flights.take(self._desk.pool, broadcast.id, lease_id)
        if taken is None:
            return False
        kind = Undo if broadcast.state is BroadcastState.UNDOING else Flight
        self._flying[broadcast.id] = kind(self._desk, broadcast, taken)
        if self._stop.is_set():
            self._flying[broadcast.id].leave()
        log.info(
            "[BROADCAST][STARTED]",
            bot=self._desk.live.bot.slug,
            broadcast_id=broadcast.id,
            state=broadcast.state,
            recipients=broadcast.recipients,
            done=broadcast.done + taken.lost,
            unknown=taken.lost,
        )
        return True

    def _ended(self, broadcast_id: BroadcastId) -> None:
        self._flying.pop(broadcast_id, None)
        del self._tasks[broadcast_id]
        self._changed.set()

    async def _wind_down(self) -> None:
        """Call nobody else; what is in flight ends, and is written down."""
        try:
            for flying in self._flying.values():
                flying.leave()
            while self._tasks:
                await asyncio.wait(list(self._tasks.values()))
        except asyncio.CancelledError:
            self.abort()
            while self._tasks:
                with suppress(asyncio.CancelledError):
                    await asyncio.wait(list(self._tasks.values()))
            raise
        finally:
            for end in self._ends:
                end.cancel()
