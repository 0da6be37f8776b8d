"""Scheduler of a bot's broadcasts within its lane: some concurrently, the rest after them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

import structlog

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.context import BroadcastContext, claim_locally
from telewarm.broadcasts.policy import pause_reason
from telewarm.broadcasts.readiness import MediaReadiness
from telewarm.broadcasts.runner import BroadcastRunner
from telewarm.broadcasts.undo import UndoRunner
from telewarm.database import broadcast_runs, broadcasts
from telewarm.database.broadcast_runs import ActiveRun
from telewarm.database.connection import Pool
from telewarm.database.leases import ProcessLease
from telewarm.database.transient import is_transient
from telewarm.errors import NotFound, TelewarmError
from telewarm.flood_control.fair_share import FairShareAllocator
from telewarm.models import Broadcast, BroadcastId, BroadcastState
from telewarm.sending.sender import Sender

log = structlog.get_logger(__name__)

MAX_ACTIVE_BROADCASTS = 4  # broadcasts with something to do
MAX_OPEN_BROADCASTS = 64  # broadcasts, including those that wait for a pause or a limit of their own
SLICE_SECONDS = 10.0  # seconds after which the lane's slot is yielded when other lanes wait
POLL_SECONDS = 1.0  # seconds between checks of broadcasts that wait for media, a slot, or a run held elsewhere
MAX_WAIT_SECONDS = 300.0  # maximum seconds of one wait for a start time
FINAL_WRITE_SECONDS = 2.0  # seconds for the last write after an abort


class BroadcastScheduler:
    """Runs once, like a lane. `on_sending`: called when a run is claimed, and when it is released."""

    def __init__(
        self,
        *,
        pool: Pool,
        lease: ProcessLease,
        session: BotSession,
        sender: Sender,
        stop: asyncio.Event,
        has_waiting_lanes: Callable[[], bool],
        concurrency: int,
        on_sending: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_sending = on_sending
        self._context = BroadcastContext(
            pool=pool,
            lease=lease,
            session=session,
            sender=sender,
            shares=FairShareAllocator(session.limiter),
            concurrency=concurrency,
        )
        self._stop = stop
        self._has_waiting_lanes = has_waiting_lanes
        self._readiness = MediaReadiness(pool, session)
        self._changed = asyncio.Event()
        self._may_have_work = True  # whether there may be work that was not read yet
        self._runners: dict[BroadcastId, BroadcastRunner | UndoRunner] = {}
        self._tasks: dict[BroadcastId, asyncio.Task[None]] = {}
        self._kill_timers: set[asyncio.TimerHandle] = set()
        self._started_at = clock.monotonic()
        self._next_poll_at = math.inf

    @property
    def in_flight(self) -> int:
        """Number of recipients in flight."""
        return sum(runner.in_flight for runner in self._runners.values())

    @property
    def held(self) -> int:
        """Number of pending recipients."""
        return sum(runner.held for runner in self._runners.values())

    def nudge(self) -> None:
        """Wake the scheduler: there is new work, or the context changed."""
        self._may_have_work = True
        self._changed.set()
        for runner in self._runners.values():
            runner.nudge()

    def abort(self) -> None:
        """Cancel the calls in flight: their outcome is unknown. Ends within moments, written or not."""
        for runner in self._runners.values():
            runner.abort()
        loop = asyncio.get_running_loop()
        for task in self._tasks.values():
            self._kill_timers.add(loop.call_later(FINAL_WRITE_SECONDS, task.cancel))

    async def run(self) -> float | None:
        """Run until nothing is due. Returns the seconds after which to run again, None when nothing is left.

        Lets calls in flight finish; when cancelled, cancels them.
        """
        try:
            delay = await self._run_until_idle()
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            await self._drain()
        return 0.0 if delay is None and self._may_have_work else delay

    async def _run_until_idle(self) -> float | None:
        while True:
            self._changed.clear()
            now = clock.monotonic()
            if self._stop.is_set() or (now - self._started_at > SLICE_SECONDS and self._has_waiting_lanes()):
                return 0.0
            if self._may_have_work or now >= self._next_poll_at:
                await self._start_due()
            elif not self._tasks:
                if self._next_poll_at == math.inf:
                    return None
                if self._next_poll_at - now > POLL_SECONDS or self._has_waiting_lanes():
                    return self._next_poll_at - now
            await clock.wait(self._changed, self._seconds_to_next_poll())

    def _seconds_to_next_poll(self) -> float:
        """Return the seconds to the next check of other lanes and of schedules."""
        if self._may_have_work:
            return 0.0
        if not self._tasks and self._next_poll_at == math.inf:
            return 0.0
        return min(POLL_SECONDS, self._next_poll_at - clock.monotonic())

    async def _start_due(self) -> None:
        """Start due broadcasts; sets `_next_poll_at`."""
        self._may_have_work, self._next_poll_at = False, math.inf
        try:
            actives = await broadcast_runs.active_runs(self._context.pool, self._context.session.bot.id)
        except Exception as error:  # noqa: BLE001 - logged there
            self._log_poll_failure(error)
            return
        for active in actives:
            if active.id not in self._tasks and not self._stop.is_set():
                try:
                    await self._start_broadcast(active)
                except Exception as error:  # noqa: BLE001 - logged there; it stops no other broadcast
                    self._log_poll_failure(error, broadcast_id=active.id)

    def _log_poll_failure(self, error: Exception, **facts: object) -> None:
        slug, bug = self._context.session.bot.slug, not is_transient(error)
        log.warning("broadcast_poll_failed", bot=slug, error=type(error).__name__, exc_info=bug, **facts)
        self._poll_in(POLL_SECONDS)

    def _poll_in(self, seconds: float) -> None:
        self._next_poll_at = min(self._next_poll_at, clock.monotonic() + min(seconds, MAX_WAIT_SECONDS))

    async def _start_broadcast(self, active: ActiveRun) -> None:
        if active.starts_in > 0:
            self._poll_in(active.starts_in)
            return
        if not self._has_room():
            self._poll_in(POLL_SECONDS)
            return
        try:
            broadcast = await broadcasts.get(self._context.pool, active.id)
        except NotFound:
            return
        if broadcast.state is BroadcastState.SCHEDULED:
            await self._begin_scheduled(broadcast)
            return
        if broadcast.state is BroadcastState.UNDOING or await self._is_ready(broadcast):
            task = asyncio.create_task(self._run_broadcast(broadcast), name=f"broadcast {broadcast.id}")
            self._tasks[broadcast.id] = task
            task.add_done_callback(lambda _: self._on_runner_done(broadcast.id))

    async def _begin_scheduled(self, broadcast: Broadcast) -> None:
        """Start a scheduled broadcast whose time has come."""
        scheduled = [BroadcastState.SCHEDULED]
        if await broadcasts.set_state(self._context.pool, broadcast.id, BroadcastState.RUNNING, only_from=scheduled):
            log.info("broadcast_begins", bot=self._context.session.bot.slug, broadcast_id=broadcast.id)
        self._may_have_work = True

    def _has_room(self) -> bool:
        """Return whether another broadcast may start: those that wait for a limit of their own do not count."""
        resting = sum(runner.is_idle for runner in self._runners.values())
        return len(self._tasks) - resting < MAX_ACTIVE_BROADCASTS and len(self._tasks) < MAX_OPEN_BROADCASTS

    async def _is_ready(self, broadcast: Broadcast) -> bool:
        if broadcast.state is not BroadcastState.RUNNING:
            return False
        try:
            if await self._readiness.is_ready(broadcast):
                return True
        except TelewarmError as error:
            reason = pause_reason(error, broadcast.id)
            if await broadcasts.set_state(
                self._context.pool,
                broadcast.id,
                BroadcastState.PAUSED,
                only_from=[BroadcastState.RUNNING],
                reason=reason,
            ):
                slug = self._context.session.bot.slug
                log.warning("broadcast_paused", bot=slug, broadcast_id=broadcast.id, reason=reason)
            return False
        self._poll_in(POLL_SECONDS)
        return False

    async def _run_broadcast(self, broadcast: Broadcast) -> None:
        try:
            with claim_locally(self._context.lease, broadcast.id) as ours:
                if not ours or not await self._claim(broadcast):
                    self._poll_in(POLL_SECONDS)
                    return
                runner = self._runners[broadcast.id]
                self._on_sending()
                try:
                    await runner.run()
                finally:
                    self._on_sending()
        except Exception as error:
            if is_transient(error):
                log.warning("broadcast_run_retried", broadcast_id=broadcast.id, error=type(error).__name__)
            else:
                log.exception("unhandled_exception", broadcast_id=broadcast.id)
            self._poll_in(POLL_SECONDS)
        else:
            if isinstance(runner, UndoRunner) and runner.retry_in is not None:
                self._poll_in(runner.retry_in)
            else:
                self._may_have_work = True  # others may wait for the slot, or it was resumed meanwhile

    async def _claim(self, broadcast: Broadcast) -> bool:
        """Claim the run. Returns whether it was free."""
        lease_id = self._context.lease.id
        claimed = await broadcast_runs.claim(self._context.pool, broadcast.id, lease_id)
        if claimed is None:
            return False
        kind = UndoRunner if broadcast.state is BroadcastState.UNDOING else BroadcastRunner
        self._runners[broadcast.id] = kind(self._context, broadcast, claimed)
        if self._stop.is_set():
            self._runners[broadcast.id].stop()
        log.info(
            "broadcast_started",
            bot=self._context.session.bot.slug,
            broadcast_id=broadcast.id,
            state=broadcast.state,
            recipients=broadcast.recipients,
            done=broadcast.done + claimed.unknown,
            unknown=claimed.unknown,
        )
        return True

    def _on_runner_done(self, broadcast_id: BroadcastId) -> None:
        self._runners.pop(broadcast_id, None)
        del self._tasks[broadcast_id]
        self._changed.set()

    async def _drain(self) -> None:
        """Admit no more recipients; wait for those in flight and record them."""
        try:
            for runner in self._runners.values():
                runner.stop()
            while self._tasks:
                await asyncio.wait(list(self._tasks.values()))
        except asyncio.CancelledError:
            self.abort()
            while self._tasks:
                with suppress(asyncio.CancelledError):
                    await asyncio.wait(list(self._tasks.values()))
            raise
        finally:
            for end in self._kill_timers:
                end.cancel()
