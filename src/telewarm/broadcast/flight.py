"""One broadcast on its way: whom it calls is written down before, what became of it after, in one statement a round."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from functools import partial

import structlog
from msgspec import structs

from telewarm import clock
from telewarm.broadcast import policy
from telewarm.broadcast.ahead import Ahead
from telewarm.broadcast.crew import Crew
from telewarm.broadcast.desk import Desk
from telewarm.broadcast.insist import RETRY, insist
from telewarm.broadcast.later import Later
from telewarm.broadcast.outcomes import advance
from telewarm.broadcast.policy import Again, Halt, Pace, Verdict
from telewarm.broadcast.refusals import Refusals, cause_of, refusal_of
from telewarm.broadcast.share import Member
from telewarm.broadcast.weather import Weather
from telewarm.database import broadcasts, flights
from telewarm.database.flights import Round, Taken
from telewarm.database.transient import as_outage, is_transient
from telewarm.errors import BadRequest, ChatMigrated, DeadFileId, TelewarmError, TokenRefused
from telewarm.model import Broadcast, BroadcastState, ChatId, Delivery, Outcome
from telewarm.sender import OnCold, SendResult
from telewarm.sender.messages import Album, Step
from telewarm.telegram import Effect, Rank, effect_of

log = structlog.get_logger(__name__)

LOOK = 1.0  # seconds between looks at the state while nothing is written, and between two NOTIFYs of the progress
ROUND = 0.004  # seconds between two rounds at full speed: with more, places stand empty (measured)
PATIENCE = 5.0  # seconds that one message waits for its chat; for longer its recipient makes room for others
PATIENCE_OF_SET = 60.0  # seconds that several do: who has got the first is to get the rest


class Flight:
    """Taken in hand under the lease that was ours then: when that is lost, it is over."""

    def __init__(self, desk: Desk, broadcast: Broadcast, taken: Taken) -> None:
        self._desk = desk
        self._broadcast = broadcast
        self._lease_id = desk.lease.id
        self._changed = asyncio.Event()
        self._ahead = Ahead(desk.pool, broadcast, after=taken.cursor, on_change=self._changed.set)
        self._later = Later(taken.later)
        self._crew = Crew(self._call, self._landed)
        self._weather = Weather(desk.live, on_change=self._changed.set)
        self._pace = Pace(broadcast.per_second)
        reached = bool(broadcast.counts[Outcome.SENT])
        self._refusals = Refusals(known=broadcast.refusal, reached=reached)
        self._steps: Sequence[Step] = ()
        self._weight = 1
        self._cursor = taken.cursor
        self._boarding: list[ChatId] = []  # taken, and perhaps not written down yet
        self._air: set[ChatId] = set()
        self._outcomes: list[Delivery] = []
        self._unsaid = False  # `later` has changed
        self._leaving = self._lost = False
        self._halted: TelewarmError | None = None
        self._looked_at = self._told_at = 0.0
        self._busy_at = clock.monotonic()
        self._log = log.bind(bot=desk.live.bot.slug, broadcast_id=broadcast.id)

    @property
    def resting(self) -> bool:
        """Whether it has had nothing to do for a while, and leaves room for another broadcast."""
        return not self._air and clock.monotonic() - self._busy_at > LOOK

    @property
    def in_flight(self) -> int:
        return len(self._air)

    @property
    def held(self) -> int:
        return len(self._boarding) + self._crew.queued

    def nudge(self) -> None:
        """Perhaps its state has changed."""
        self._looked_at = 0.0
        self._changed.set()

    def leave(self) -> None:
        """Call nobody else: let what is in the air end, and give the flight back."""
        if not self._leaving:
            self._leaving = True
            self._put_back(self._crew.recall())
            self._changed.set()

    def cut_short(self) -> None:
        """Of whoever is being called the outcome is unknown."""
        self.leave()
        self._crew.cut_short()

    async def run(self) -> None:
        """Until it has landed, is left, or is lost. Raises what a lost database raises before anybody is called."""
        try:
            self._steps = await self._desk.sender.planned(self._desk.live, self._broadcast.message)
        except TelewarmError as error:
            self._halted, self._leaving = error, True
        self._weight = sum(len(step.items) if isinstance(step, Album) else 1 for step in self._steps) or 1
        with self._desk.shares.joined(weight=self._weight, unspent=self._unspent, wake=self._changed.set) as member:
            try:
                await self._fly(member)
            finally:
                await self._ahead.close()
                await self._weather.close()
                await self._crew.end()
        await self._end()

    async def _fly(self, member: Member) -> None:
        while not self._over():
            self._changed.clear()
            again_at = self._board(member, clock.monotonic())
            if self._lost:
                await clock.wait(self._changed, LOOK)
            elif self._halted is not None:
                await self._pause(self._halted)
            elif self._outcomes or self._boarding or self._unsaid:
                await self._gather()
                await self._write()
            elif not self._over():
                await self._rest(again_at)

    def _over(self) -> bool:
        if self._air:
            return False
        if self._lost:
            return True
        if self._outcomes or self._boarding or self._unsaid or self._halted is not None:
            return False
        return self._leaving or (self._ahead.ended and not self._later)

    def _board(self, member: Member, now: float) -> float:
        """Take those who may be called now; when to look again."""
        if self._boarding or self._leaving or self._lost:
            return now + LOOK
        if self._desk.lease.id != self._lease_id:  # ours ran out; with the new one it can be taken again
            self.leave()
            return now
        self._ahead.read_on()
        self._skip_lost()
        places = self._weather.places(self._desk.concurrency - len(self._air), now=now)
        waiting = (0 if self._later.due_at > now else len(self._later)) + (
            0 if self._later.full else len(self._ahead.ready)
        )
        open_at = self._pace.opens_at()
        wanted = self._pace.room(now, most=min(places, waiting), weight=self._weight)
        count, again_at = self._desk.shares.allow(member, wanted, now)
        self._take(member, count, now)
        times = [now + LOOK, self._later.due_at]
        if wanted > count:
            times.append(again_at)
        elif waiting and places:
            times.append(max(open_at, self._pace.opens_at()))
        if self._weather.bad:
            times.append(self._weather.looks_at)
        return min(at for at in times if at > now)

    def _skip_lost(self) -> None:
        """The ledger knows them: they cost no call, and no place."""
        ready = self._ahead.ready
        while ready and (error := ready[0].error) is not None:
            lost = ready.popleft()
            self._cursor = lost.chat_id
            self._outcomes.append(
                Delivery(chat_id=lost.chat_id, outcome=Outcome.SKIPPED, error=error, moved_to=lost.moved_to)
            )

    def _take(self, member: Member, count: int, now: float) -> None:
        if not count:
            return
        taken = self._later.take(count, now=now)
        ready = self._ahead.ready
        while len(taken) < count and ready and ready[0].error is None:
            self._cursor = ready.popleft().chat_id
            taken.append(self._cursor)
        self._boarding = taken
        self._weather.takes(taken)
        self._pace.spend(len(taken), now=now, weight=self._weight)
        self._desk.shares.took(member, len(taken))

    def _unspent(self) -> int:
        """Messages of those who are taken that the bot's limits do not know of yet, as far as we can tell."""
        begun = len(self._air) - self._crew.queued
        return self._weight * self.held + (self._weight - 1) * begun // 2

    async def _gather(self) -> None:
        """At full speed a round waits a moment, so that it writes more at once."""
        early = self._looked_at + ROUND - clock.monotonic()
        if early > 0 and len(self._air) > self._desk.concurrency // 2 and not self._leaving:
            await clock.sleep(early)

    async def _write(self) -> None:
        """One round. Only when it is written down are those on board called."""
        outcomes, self._outcomes, self._unsaid = self._outcomes, [], False
        written = Round(
            in_flight=[*self._air, *self._boarding],
            later=self._later.chat_ids(),
            cursor=self._cursor,
            outcomes=outcomes,
        )
        now = clock.monotonic()
        tell = now - self._told_at >= LOOK
        try:
            state = await advance(self._desk.pool, self._broadcast.id, self._lease_id, written, tell=tell)
        except Exception as error:
            if not is_transient(error):
                raise
            self._outcomes = outcomes + self._outcomes
            self._unsaid = True
            self._log.warning("[BROADCAST][WRITE][RETRY]", outcomes=len(outcomes), error=type(error).__name__)
            await clock.sleep(RETRY)
            return
        self._looked_at = now
        if tell:
            self._told_at = now
        if state is None:
            self._outcomes = outcomes + self._outcomes
        self._obey(state)
        self._call_boarded()

    def _obey(self, state: BroadcastState | None) -> None:
        if state is None:
            self._lost = True
            self._log.warning("[BROADCAST][LOST]", in_flight=len(self._air))
            self._air.difference_update(self._crew.recall())  # the new holder takes them for unknown
        elif state is not BroadcastState.RUNNING:
            self.leave()

    def _call_boarded(self) -> None:
        boarded, self._boarding = self._boarding, []
        if self._lost:
            return
        if self._leaving:
            self._put_back(boarded)
        elif boarded:
            self._air.update(boarded)
            self._crew.start(boarded, tasks=min(self._desk.concurrency, len(self._air)))

    def _put_back(self, chat_ids: Sequence[ChatId]) -> None:
        """They were taken, and are not called now."""
        for chat_id in chat_ids:
            self._air.discard(chat_id)
            self._weather.passed_over(chat_id)
            self._later.add(chat_id, due_at=0.0)
            self._unsaid = True

    async def _rest(self, until: float) -> None:
        await clock.wait(self._changed, until - clock.monotonic())
        now = clock.monotonic()
        if now - self._looked_at < LOOK:
            return
        self._looked_at = now
        try:
            self._obey(await flights.look(self._desk.pool, self._broadcast.id, self._lease_id))
        except Exception as error:
            if not is_transient(error):
                raise
            self._log.warning("[BROADCAST][LOOK][RETRY]", error=type(error).__name__)
            await clock.sleep(RETRY)

    async def _call(self, chat_id: ChatId) -> Verdict:
        desk = self._desk
        api = desk.live.api
        results = await self._send(chat_id, follow=False)
        if isinstance(moved := results[0].error, ChatMigrated):
            return await self._call_moved(chat_id, ChatId(moved.migrate_to_chat_id))
        self._observe(chat_id, results[-1])
        verdict = self._judge(chat_id, results)
        if isinstance(verdict, Halt) and isinstance(verdict.error, TokenRefused) and desk.live.api is not api:
            return Again(error=verdict.error)  # it has another token by now
        return verdict

    async def _call_moved(self, chat_id: ChatId, moved_to: ChatId) -> Verdict:
        """The group is a supergroup by now: there, unless that is a recipient too and gets it anyway."""
        try:
            twice = await flights.is_recipient(self._desk.pool, self._broadcast.id, moved_to)
        except Exception as error:
            if (away := as_outage(error)) is None:
                raise
            return Again(error=away)
        if twice:
            return policy.moved(chat_id, moved_to)
        results = await self._send(moved_to, follow=True)
        self._observe(chat_id, results[-1])
        verdict = self._judge(chat_id, results)
        return structs.replace(verdict, moved_to=moved_to) if isinstance(verdict, Delivery) else verdict

    def _judge(self, chat_id: ChatId, results: Sequence[SendResult]) -> Verdict:
        """A refusal that is the message's own halts the broadcast; nobody is counted as failed for it then."""
        verdict = policy.judge(chat_id, results)
        if (error := refusal_of(results)) is None:
            if isinstance(verdict, Delivery) and verdict.outcome is Outcome.SENT:
                self._refusals.worked()
        elif self._refusals.refused(error) and isinstance(verdict, Delivery):
            if verdict.outcome is Outcome.FAILED:
                return Halt(error=error)
            self._halt(error)
        return verdict

    def _send(self, chat_id: ChatId, *, follow: bool) -> Awaitable[list[SendResult]]:
        return self._desk.sender.send_plan(
            self._desk.live,
            chat_id,
            self._steps,
            on_cold=OnCold.UPLOAD,
            patience=PATIENCE if self._weight == 1 else PATIENCE_OF_SET,
            rank=Rank.DELIVERY,
            follow=follow,
        )

    def _observe(self, chat_id: ChatId, last: SendResult) -> None:
        if last.error is None or effect_of(last.error) is Effect.CERTAIN:
            self._weather.worked(chat_id)
        else:
            self._weather.failed(chat_id, last.error)

    def _landed(self, chat_id: ChatId, verdict: Verdict) -> None:
        """Of one that was called, once what became of it is known."""
        self._air.discard(chat_id)
        self._busy_at = clock.monotonic()
        match verdict:
            case Delivery():
                self._settle(verdict)
            case Again(error=error):
                self._again(chat_id, error)
            case Halt(error=error):
                self._put_back([chat_id])
                self._halt(error)
        self._changed.set()

    def _halt(self, error: TelewarmError) -> None:
        self._halted = error
        self.leave()

    def _settle(self, outcome: Delivery) -> None:
        self._outcomes.append(outcome)
        self._later.settled(outcome.chat_id)

    def _again(self, chat_id: ChatId, error: TelewarmError) -> None:
        """It did not go, for sure. An outage is no fault of its own, and a flood wait no failure."""
        now = clock.monotonic()
        tried = self._later.tried(chat_id, now=now)
        tried.failures += 1
        if not self._weather.bad and policy.gives_up(error, tries=tried.failures, age=now - tried.first):
            self._settle(Delivery(chat_id=chat_id, outcome=Outcome.FAILED, error=policy.words(error)))
            return
        due_at = now + policy.retry_in(error, tries=tried.failures, dice=random.random())  # noqa: S311 (jitter)
        self._later.add(chat_id, due_at=due_at)
        self._unsaid = True

    async def _pause(self, error: TelewarmError) -> None:
        """Nobody would get it: its owner has to do something."""
        reason = policy.cure(error, self._broadcast.id)
        await insist(
            self._broadcast.id,
            partial(
                broadcasts.set_state,
                self._desk.pool,
                self._broadcast.id,
                BroadcastState.PAUSED,
                only_from=[BroadcastState.RUNNING],
                reason=reason,
                refusal=cause_of(error.description) if isinstance(error, BadRequest | DeadFileId) else None,
            ),
        )
        self._halted = None
        self._log.warning("[BROADCAST][PAUSED]", reason=reason)

    async def _end(self) -> None:
        """Say how it ended, and let go of it."""
        pool, broadcast_id = self._desk.pool, self._broadcast.id
        if self._lost:
            if self._outcomes:
                await insist(broadcast_id, partial(flights.settle_unknown, pool, broadcast_id, self._outcomes))
        elif self._leaving:
            await insist(broadcast_id, partial(flights.give_back, pool, broadcast_id, self._lease_id))
        elif await insist(broadcast_id, partial(flights.land, pool, broadcast_id, self._lease_id, BroadcastState.DONE)):
            counts = (await insist(broadcast_id, partial(broadcasts.get, pool, broadcast_id))).counts
            self._log.info("[BROADCAST][DONE]", **{outcome.value: count for outcome, count in counts.items() if count})
