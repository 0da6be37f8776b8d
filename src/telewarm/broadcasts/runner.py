"""One broadcast on its way: whom it calls is written down before, what became of it after, in one statement a round."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from functools import partial

import structlog
from msgspec import structs

from telewarm import clock
from telewarm.broadcasts import policy
from telewarm.broadcasts.context import BroadcastContext
from telewarm.broadcasts.policy import Abort, RateCap, Retry, SendDecision
from telewarm.broadcasts.prefetcher import RecipientPrefetcher
from telewarm.broadcasts.refusals import RefusalCounter, cause_of, refusal_of
from telewarm.broadcasts.retry import RETRY_SECONDS, retry_until_available
from telewarm.broadcasts.retry_queue import RetryQueue
from telewarm.broadcasts.run_updates import advance
from telewarm.broadcasts.worker_pool import WorkerPool
from telewarm.database import broadcast_runs, broadcasts
from telewarm.database.broadcast_runs import ClaimedRun, RunUpdate
from telewarm.database.transient import as_outage, is_transient
from telewarm.errors import BadRequest, ChatMigrated, InvalidBotToken, InvalidFileId, TelewarmError
from telewarm.flood_control.circuit_breaker import CircuitBreaker
from telewarm.flood_control.fair_share import Participant
from telewarm.flood_control.priority import Priority
from telewarm.models import Broadcast, BroadcastState, ChatId, Delivery, DeliveryStatus
from telewarm.sending.messages import AlbumStep, Step
from telewarm.sending.send_context import OnCold, SendResult
from telewarm.telegram.effect import Effect, effect_of

log = structlog.get_logger(__name__)

POLL_SECONDS = (
    1.0  # seconds between looks at the state while nothing is written, and between two NOTIFYs of the progress
)
MIN_UPDATE_INTERVAL_SECONDS = (
    0.004  # seconds between two rounds at full speed: with more, places stand empty (measured)
)
MAX_CHAT_WAIT_SECONDS = (
    5.0  # seconds that one message waits for its chat; for longer its recipient makes room for others
)
MAX_SET_WAIT_SECONDS = 60.0  # seconds that several do: who has got the first is to get the rest


class BroadcastRunner:
    """Taken in hand under the lease that was ours then: when that is lost, it is over."""

    def __init__(self, desk: BroadcastContext, broadcast: Broadcast, taken: ClaimedRun) -> None:
        self._context = desk
        self._broadcast = broadcast
        self._lease_id = desk.lease.id
        self._changed = asyncio.Event()
        self._prefetcher = RecipientPrefetcher(desk.pool, broadcast, after=taken.cursor, on_change=self._changed.set)
        self._retries = RetryQueue(taken.later)
        self._workers = WorkerPool(self._deliver, self._on_result)
        self._breaker = CircuitBreaker(self._ask, slug=desk.live.bot.slug, on_change=self._changed.set)
        self._rate_cap = RateCap(broadcast.per_second)
        reached = bool(broadcast.counts[DeliveryStatus.SENT])
        self._refusals = RefusalCounter(known=broadcast.refusal, reached=reached)
        self._plan: Sequence[Step] = ()
        self._weight = 1
        self._cursor = taken.cursor
        self._pending: list[ChatId] = []  # taken, and perhaps not written down yet
        self._in_flight: set[ChatId] = set()
        self._outcomes: list[Delivery] = []
        self._retries_dirty = False  # `later` has changed
        self._stopping = self._lease_lost = False
        self._abort_error: TelewarmError | None = None
        self._synced_at = self._notified_at = 0.0
        self._busy_at = clock.monotonic()
        self._log = log.bind(bot=desk.live.bot.slug, broadcast_id=broadcast.id)

    @property
    def is_idle(self) -> bool:
        """Whether it has had nothing to do for a while, and leaves room for another broadcast."""
        return not self._in_flight and clock.monotonic() - self._busy_at > POLL_SECONDS

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def held(self) -> int:
        return len(self._pending) + self._workers.queued

    def nudge(self) -> None:
        """Perhaps its state has changed."""
        self._synced_at = 0.0
        self._changed.set()

    def stop(self) -> None:
        """Call nobody else: let what is in the air end, and give the flight back."""
        if not self._stopping:
            self._stopping = True
            self._requeue(self._workers.unqueue())
            self._changed.set()

    def abort(self) -> None:
        """Of whoever is being called the outcome is unknown."""
        self.stop()
        self._workers.cancel_all()

    async def run(self) -> None:
        """Until it has landed, is left, or is lost. Raises what a lost database raises before anybody is called."""
        try:
            self._plan = await self._context.sender.planned(self._context.live, self._broadcast.message)
        except TelewarmError as error:
            self._abort_error, self._stopping = error, True
        self._weight = sum(len(step.items) if isinstance(step, AlbumStep) else 1 for step in self._plan) or 1
        with self._context.shares.joined(
            weight=self._weight, unspent=self._uncounted_messages, wake=self._changed.set
        ) as member:
            try:
                await self._run_rounds(member)
            finally:
                await self._prefetcher.close()
                await self._breaker.close()
                await self._workers.end()
        await self._release()

    async def _run_rounds(self, member: Participant) -> None:
        while not self._is_finished():
            self._changed.clear()
            again_at = self._admit(member, clock.monotonic())
            if self._lease_lost:
                await clock.wait(self._changed, POLL_SECONDS)
            elif self._abort_error is not None:
                await self._pause(self._abort_error)
            elif self._outcomes or self._pending or self._retries_dirty:
                await self._let_batch_grow()
                await self._persist()
            elif not self._is_finished():
                await self._wait(again_at)

    def _is_finished(self) -> bool:
        if self._in_flight:
            return False
        if self._lease_lost:
            return True
        if self._outcomes or self._pending or self._retries_dirty or self._abort_error is not None:
            return False
        return self._stopping or (self._prefetcher.is_exhausted and not self._retries)

    def _admit(self, member: Participant, now: float) -> float:
        """Take those who may be called now; when to look again."""
        if self._pending or self._stopping or self._lease_lost:
            return now + POLL_SECONDS
        if self._context.lease.id != self._lease_id:  # ours ran out; with the new one it can be taken again
            self.stop()
            return now
        self._prefetcher.prefetch()
        self._skip_unreachable()
        places = self._breaker.allowed(self._context.concurrency - len(self._in_flight), now=now)
        waiting = (0 if self._retries.due_at > now else len(self._retries)) + (
            0 if self._retries.is_full else len(self._prefetcher.ready)
        )
        open_at = self._rate_cap.opens_at()
        wanted = self._rate_cap.room(now, most=min(places, waiting), weight=self._weight)
        count, again_at = self._context.shares.allow(member, wanted, now)
        self._admit_recipients(member, count, now)
        times = [now + POLL_SECONDS, self._retries.due_at]
        if wanted > count:
            times.append(again_at)
        elif waiting and places:
            times.append(max(open_at, self._rate_cap.opens_at()))
        if self._breaker.is_open:
            times.append(self._breaker.next_probe_at)
        return min(at for at in times if at > now)

    def _skip_unreachable(self) -> None:
        """The ledger knows them: they cost no call, and no place."""
        ready = self._prefetcher.ready
        while ready and (error := ready[0].error) is not None:
            lost = ready.popleft()
            self._cursor = lost.chat_id
            self._outcomes.append(
                Delivery(chat_id=lost.chat_id, outcome=DeliveryStatus.SKIPPED, error=error, moved_to=lost.moved_to)
            )

    def _admit_recipients(self, member: Participant, count: int, now: float) -> None:
        if not count:
            return
        taken = self._retries.take(count, now=now)
        ready = self._prefetcher.ready
        while len(taken) < count and ready and ready[0].error is None:
            self._cursor = ready.popleft().chat_id
            taken.append(self._cursor)
        self._pending = taken
        self._breaker.on_admitted(taken)
        self._rate_cap.spend(len(taken), now=now, weight=self._weight)
        self._context.shares.admitted(member, len(taken))

    def _uncounted_messages(self) -> int:
        """Messages of those who are taken that the bot's limits do not know of yet, as far as we can tell."""
        begun = len(self._in_flight) - self._workers.queued
        return self._weight * self.held + (self._weight - 1) * begun // 2

    async def _let_batch_grow(self) -> None:
        """At full speed a round waits a moment, so that it writes more at once."""
        early = self._synced_at + MIN_UPDATE_INTERVAL_SECONDS - clock.monotonic()
        if early > 0 and len(self._in_flight) > self._context.concurrency // 2 and not self._stopping:
            await clock.sleep(early)

    async def _persist(self) -> None:
        """One round. Only when it is written down are those on board called."""
        outcomes, self._outcomes, self._retries_dirty = self._outcomes, [], False
        written = RunUpdate(
            in_flight=[*self._in_flight, *self._pending],
            later=self._retries.chat_ids(),
            cursor=self._cursor,
            outcomes=outcomes,
        )
        now = clock.monotonic()
        tell = now - self._notified_at >= POLL_SECONDS
        try:
            state = await advance(self._context.pool, self._broadcast.id, self._lease_id, written, tell=tell)
        except Exception as error:
            if not is_transient(error):
                raise
            self._outcomes = outcomes + self._outcomes
            self._retries_dirty = True
            self._log.warning("broadcast_progress_write_retried", outcomes=len(outcomes), error=type(error).__name__)
            await clock.sleep(RETRY_SECONDS)
            return
        self._synced_at = now
        if tell:
            self._notified_at = now
        if state is None:
            self._outcomes = outcomes + self._outcomes
        self._apply_state(state)
        self._start_pending()

    def _apply_state(self, state: BroadcastState | None) -> None:
        if state is None:
            self._lease_lost = True
            self._log.warning("broadcast_lease_lost", in_flight=len(self._in_flight))
            self._in_flight.difference_update(self._workers.unqueue())  # the new holder takes them for unknown
        elif state is not BroadcastState.RUNNING:
            self.stop()

    def _start_pending(self) -> None:
        boarded, self._pending = self._pending, []
        if self._lease_lost:
            return
        if self._stopping:
            self._requeue(boarded)
        elif boarded:
            self._in_flight.update(boarded)
            self._workers.start(boarded, tasks=min(self._context.concurrency, len(self._in_flight)))

    def _requeue(self, chat_ids: Sequence[ChatId]) -> None:
        """They were taken, and are not called now."""
        for chat_id in chat_ids:
            self._in_flight.discard(chat_id)
            self._breaker.not_called(chat_id)
            self._retries.add(chat_id, due_at=0.0)
            self._retries_dirty = True

    async def _wait(self, until: float) -> None:
        await clock.wait(self._changed, until - clock.monotonic())
        now = clock.monotonic()
        if now - self._synced_at < POLL_SECONDS:
            return
        self._synced_at = now
        try:
            self._apply_state(await broadcast_runs.get_state(self._context.pool, self._broadcast.id, self._lease_id))
        except Exception as error:
            if not is_transient(error):
                raise
            self._log.warning("broadcast_poll_failed", error=type(error).__name__)
            await clock.sleep(RETRY_SECONDS)

    async def _deliver(self, chat_id: ChatId) -> SendDecision:
        desk = self._context
        api = desk.live.api
        results = await self._send(chat_id, follow=False)
        if isinstance(moved := results[0].error, ChatMigrated):
            return await self._deliver_to_migrated(chat_id, ChatId(moved.migrate_to_chat_id))
        self._report_to_breaker(chat_id, results[-1])
        verdict = self._decide(chat_id, results)
        if isinstance(verdict, Abort) and isinstance(verdict.error, InvalidBotToken) and desk.live.api is not api:
            return Retry(error=verdict.error)  # it has another token by now
        return verdict

    async def _deliver_to_migrated(self, chat_id: ChatId, moved_to: ChatId) -> SendDecision:
        """The group is a supergroup by now: there, unless that is a recipient too and gets it anyway."""
        try:
            twice = await broadcast_runs.is_recipient(self._context.pool, self._broadcast.id, moved_to)
        except Exception as error:
            if (away := as_outage(error)) is None:
                raise
            return Retry(error=away)
        if twice:
            return policy.migrated_delivery(chat_id, moved_to)
        results = await self._send(moved_to, follow=True)
        self._report_to_breaker(chat_id, results[-1])
        verdict = self._decide(chat_id, results)
        return structs.replace(verdict, moved_to=moved_to) if isinstance(verdict, Delivery) else verdict

    def _decide(self, chat_id: ChatId, results: Sequence[SendResult]) -> SendDecision:
        """A refusal that is the message's own halts the broadcast; nobody is counted as failed for it then."""
        verdict = policy.decide(chat_id, results)
        if (error := refusal_of(results)) is None:
            if isinstance(verdict, Delivery) and verdict.outcome is DeliveryStatus.SENT:
                self._refusals.succeeded()
        elif self._refusals.refused(error) and isinstance(verdict, Delivery):
            if verdict.outcome is DeliveryStatus.FAILED:
                return Abort(error=error)
            self._abort_with(error)
        return verdict

    def _send(self, chat_id: ChatId, *, follow: bool) -> Awaitable[list[SendResult]]:
        return self._context.sender.send_plan(
            self._context.live,
            chat_id,
            self._plan,
            on_cold=OnCold.UPLOAD,
            patience=MAX_CHAT_WAIT_SECONDS if self._weight == 1 else MAX_SET_WAIT_SECONDS,
            rank=Priority.DELIVERY,
            follow=follow,
        )

    async def _ask(self) -> None:
        await self._context.live.api.get_me()

    def _report_to_breaker(self, chat_id: ChatId, last: SendResult) -> None:
        if last.error is None or effect_of(last.error) is Effect.CERTAIN:
            self._breaker.succeeded(chat_id)
        else:
            self._breaker.failed(chat_id, last.error)

    def _on_result(self, chat_id: ChatId, verdict: SendDecision) -> None:
        """Of one that was called, once what became of it is known."""
        self._in_flight.discard(chat_id)
        self._busy_at = clock.monotonic()
        match verdict:
            case Delivery():
                self._record_outcome(verdict)
            case Retry(error=error):
                self._retry(chat_id, error)
            case Abort(error=error):
                self._requeue([chat_id])
                self._abort_with(error)
        self._changed.set()

    def _abort_with(self, error: TelewarmError) -> None:
        self._abort_error = error
        self.stop()

    def _record_outcome(self, outcome: Delivery) -> None:
        self._outcomes.append(outcome)
        self._retries.forget(outcome.chat_id)

    def _retry(self, chat_id: ChatId, error: TelewarmError) -> None:
        """It did not go, for sure. An outage is no fault of its own, and a flood wait no failure."""
        now = clock.monotonic()
        tried = self._retries.attempt_of(chat_id, now=now)
        tried.failures += 1
        if not self._breaker.is_open and policy.should_give_up(error, tries=tried.failures, age=now - tried.first):
            self._record_outcome(
                Delivery(chat_id=chat_id, outcome=DeliveryStatus.FAILED, error=policy.error_text(error))
            )
            return
        due_at = now + policy.retry_in(error, tries=tried.failures, dice=random.random())  # noqa: S311 (jitter)
        self._retries.add(chat_id, due_at=due_at)
        self._retries_dirty = True

    async def _pause(self, error: TelewarmError) -> None:
        """Nobody would get it: its owner has to do something."""
        reason = policy.pause_reason(error, self._broadcast.id)
        await retry_until_available(
            self._broadcast.id,
            partial(
                broadcasts.set_state,
                self._context.pool,
                self._broadcast.id,
                BroadcastState.PAUSED,
                only_from=[BroadcastState.RUNNING],
                reason=reason,
                refusal=cause_of(error.description) if isinstance(error, BadRequest | InvalidFileId) else None,
            ),
        )
        self._abort_error = None
        self._log.warning("broadcast_paused", reason=reason)

    async def _release(self) -> None:
        """Say how it ended, and let go of it."""
        pool, broadcast_id = self._context.pool, self._broadcast.id
        if self._lease_lost:
            if self._outcomes:
                await retry_until_available(
                    broadcast_id, partial(broadcast_runs.resolve_unknown, pool, broadcast_id, self._outcomes)
                )
        elif self._stopping:
            await retry_until_available(
                broadcast_id, partial(broadcast_runs.release, pool, broadcast_id, self._lease_id)
            )
        elif await retry_until_available(
            broadcast_id, partial(broadcast_runs.finish, pool, broadcast_id, self._lease_id, BroadcastState.DONE)
        ):
            counts = (await retry_until_available(broadcast_id, partial(broadcasts.get, pool, broadcast_id))).counts
            self._log.info("broadcast_done", **{outcome.value: count for outcome, count in counts.items() if count})
