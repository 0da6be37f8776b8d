"""Runner of one broadcast.

Recipients are written as in flight before the call and their outcomes after it, batched in one statement an iteration,
so that a crash leaves `unknown` and never a duplicate.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from telewarm import clock
from telewarm.broadcasts import policy
from telewarm.broadcasts.admission import POLL_SECONDS, Admission
from telewarm.broadcasts.context import BroadcastContext
from telewarm.broadcasts.policy import Abort, RateCap, Retry, SendDecision
from telewarm.broadcasts.prefetcher import RecipientPrefetcher
from telewarm.broadcasts.recipient_sender import RecipientSender
from telewarm.broadcasts.refusals import cause_of
from telewarm.broadcasts.run_state import RunState
from telewarm.broadcasts.run_store import RunStore
from telewarm.broadcasts.run_sync import RunSync
from telewarm.broadcasts.worker_pool import WorkerPool
from telewarm.database.broadcast_runs import ClaimedRun
from telewarm.errors import BadRequest, InvalidFileId, TelewarmError
from telewarm.flood_control.circuit_breaker import CircuitBreaker
from telewarm.models import Broadcast, BroadcastState, ChatId, Delivery

log = structlog.get_logger(__name__)


@dataclass(kw_only=True, slots=True)
class _Ending:
    """Why the run ends. `abort_error`: of the message or of the bot; the broadcast is paused with it."""

    stopping: bool = False
    lease_lost: bool = False
    abort_error: TelewarmError | None = None


class BroadcastRunner:
    """Holds the run under the process lease of the claim; when that is lost, the run is over."""

    def __init__(self, context: BroadcastContext, broadcast: Broadcast, claimed: ClaimedRun) -> None:
        self._context = context
        self._changed = asyncio.Event()
        self._ending = _Ending()
        self._busy_at = clock.monotonic()
        self._log = log.bind(bot=context.session.bot.slug, broadcast_id=broadcast.id)
        self._state = RunState(cursor=claimed.cursor, retry_chat_ids=claimed.retry_chat_ids)
        self._store = RunStore(context.pool, broadcast.id, context.lease.id)
        self._sync = RunSync(self._store, self._state, on_state=self._apply_state)
        self._prefetcher = RecipientPrefetcher(
            context.pool, broadcast, after=claimed.cursor, on_change=self._changed.set
        )
        self._breaker = CircuitBreaker(
            context.session.api.get_me, slug=context.session.bot.slug, on_change=self._changed.set
        )
        self._sender = RecipientSender(
            context, broadcast, store=self._store, breaker=self._breaker, on_abort=self._abort_with
        )
        self._workers = WorkerPool(self._sender.deliver, self._on_result)

    @property
    def is_idle(self) -> bool:
        """Whether the broadcast has had nothing to do for a while, so that another may take its slot."""
        return not self._state.in_flight and clock.monotonic() - self._busy_at > POLL_SECONDS

    @property
    def _is_busy(self) -> bool:
        return len(self._state.in_flight) > self._context.concurrency // 2

    @property
    def in_flight(self) -> int:
        """Number of recipients in flight."""
        return len(self._state.in_flight)

    @property
    def held(self) -> int:
        """Number of pending recipients."""
        return len(self._state.pending) + self._workers.queued

    def nudge(self) -> None:
        """Check the state of the broadcast, which may have changed."""
        self._sync.mark_stale()
        self._changed.set()

    def stop(self) -> None:
        """Admit no more recipients: those in flight finish, and the run is released."""
        if not self._ending.stopping:
            self._ending.stopping = True
            self._requeue(self._workers.unqueue())
            self._changed.set()

    def abort(self) -> None:
        """Stop, and cancel the calls in flight: their outcome is unknown."""
        self.stop()
        self._workers.cancel_all()

    async def run(self) -> None:
        """Run until all recipients are finished, the runner is stopped, or the lease is lost.

        Raises on a lost database before the first call.
        """
        try:
            await self._sender.prepare()
        except TelewarmError as error:
            self._ending.abort_error, self._ending.stopping = error, True
        weight = self._sender.weight
        shares = self._context.shares
        with shares.joined(weight=weight, unspent=self._uncounted_messages, wake=self._changed.set) as participant:
            admission = Admission(
                breaker=self._breaker,
                rate_cap=RateCap(self._sender.broadcast.per_second),
                shares=shares,
                participant=participant,
                weight=weight,
                concurrency=self._context.concurrency,
            )
            try:
                await self._run_rounds(admission)
            finally:
                await self._prefetcher.close()
                await self._breaker.close()
                await self._workers.end()
        await self._release()

    async def _run_rounds(self, admission: Admission) -> None:
        while not self._is_finished():
            self._changed.clear()
            again_at = self._admit(admission, clock.monotonic())
            if self._ending.lease_lost:
                await clock.wait(self._changed, POLL_SECONDS)
            elif self._ending.abort_error is not None:
                await self._pause(self._ending.abort_error)
            elif self._state.needs_update:
                if self._is_busy and not self._ending.stopping:
                    await self._sync.let_batch_grow()
                if await self._sync.write():
                    self._start_pending()
            elif not self._is_finished():
                await clock.wait(self._changed, again_at - clock.monotonic())
                await self._sync.poll()

    def _is_finished(self) -> bool:
        if self._state.in_flight:
            return False
        if self._ending.lease_lost:
            return True
        if self._state.needs_update or self._ending.abort_error is not None:
            return False
        return self._ending.stopping or (self._prefetcher.is_exhausted and not self._state.retries)

    def _admit(self, admission: Admission, now: float) -> float:
        """Make recipients pending that may be called now. Returns when to check again."""
        if self._state.pending or self._ending.stopping or self._ending.lease_lost:
            return now + POLL_SECONDS
        if self._context.lease.id != self._store.lease_id:  # expired: the run can be claimed under the new one
            self.stop()
            return now
        self._prefetcher.prefetch()
        return admission.admit(self._state, self._prefetcher.ready, now=now)

    def _uncounted_messages(self) -> int:
        """Return the messages of admitted recipients that the rate limiter does not count yet, estimated."""
        weight = self._sender.weight
        begun = len(self._state.in_flight) - self._workers.queued
        return weight * self.held + (weight - 1) * begun // 2

    def _apply_state(self, state: BroadcastState | None) -> None:
        if state is None:
            self._ending.lease_lost = True
            self._log.warning("broadcast_lease_lost", in_flight=self.in_flight)
            self._state.forget(self._workers.unqueue())  # the next holder marks them unknown
        elif state is not BroadcastState.RUNNING:
            self.stop()

    def _start_pending(self) -> None:
        if self._ending.lease_lost:
            self._state.drop_pending()
        elif self._ending.stopping:
            self._requeue(self._state.drop_pending())
        elif started := self._state.start_pending():
            self._workers.start(started, tasks=min(self._context.concurrency, self.in_flight))

    def _requeue(self, chat_ids: Sequence[ChatId]) -> None:
        self._state.requeue(chat_ids)
        for chat_id in chat_ids:
            self._breaker.not_called(chat_id)

    def _on_result(self, chat_id: ChatId, decision: SendDecision) -> None:
        now = self._busy_at = clock.monotonic()
        match decision:
            case Delivery():
                self._state.finish(decision)
            case Retry(error=error):
                dice = random.random()  # noqa: S311 (jitter)
                self._state.retry(chat_id, error, now=now, dice=dice, circuit_open=self._breaker.is_open)
            case Abort(error=error):
                self._requeue([chat_id])
                self._abort_with(error)
        self._changed.set()

    def _abort_with(self, error: TelewarmError) -> None:
        self._ending.abort_error = error
        self.stop()

    async def _pause(self, error: TelewarmError) -> None:
        """Pause the broadcast: its owner has to act before anybody can receive it."""
        reason = policy.pause_reason(error, self._store.broadcast_id)
        refusal = cause_of(error.description) if isinstance(error, BadRequest | InvalidFileId) else None
        await self._store.pause(reason, refusal=refusal)
        self._ending.abort_error = None
        self._log.warning("broadcast_paused", reason=reason)

    async def _release(self) -> None:
        """Write how the run ended, and release it."""
        if self._ending.lease_lost:
            if self._state.outcomes:
                await self._store.resolve_unknown(self._state.outcomes)
        elif self._ending.stopping:
            await self._store.release()
        elif await self._store.finish(BroadcastState.DONE):
            counts = (await self._store.broadcast()).counts
            self._log.info("broadcast_done", **{outcome.value: count for outcome, count in counts.items() if count})
