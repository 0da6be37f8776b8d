"""Whatever happens to recipients, each is in one place, is called only after it was written, and is finished once."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from telewarm.broadcasts.run_state import RunState
from telewarm.database.broadcast_runs import Recipient, RunUpdate
from telewarm.errors import FloodWait, TelegramUnreachable, TelewarmError
from telewarm.models import ChatId, Delivery, DeliveryStatus

ERRORS: list[TelewarmError] = [
    TelegramUnreachable("no answer", method="sendPhoto", effect_possible=False),
    FloodWait(method="sendPhoto", status=429, description="Too Many Requests", retry_after=3),
]


class Run(RuleBasedStateMachine):
    """A database that takes an update or does not, and calls that end in any order and any way."""

    @initialize(count=st.integers(0, 40), unreachable=st.sets(st.integers(0, 40)), retries=st.integers(0, 5))
    def begin(self, count: int, unreachable: set[int], retries: int) -> None:
        self.everybody = [ChatId(number) for number in range(-retries, count)]
        self.state = RunState(cursor=ChatId(-1), retry_chat_ids=[one for one in self.everybody if one < 0])
        self.ready = deque(
            Recipient(chat_id=one, error="BLOCKED: it did" if one in unreachable else None, moved_to=None)
            for one in self.everybody
            if one >= 0
        )
        self.written = RunUpdate(in_flight=[], retry_chat_ids=[], cursor=ChatId(-1), outcomes=[])
        self.called: set[ChatId] = set()
        self.finished: list[ChatId] = []
        self.now = 0.0

    @rule(count=st.integers(0, 12))
    def admit(self, count: int) -> None:
        self.state.skip_unreachable(self.ready)
        if not self.state.pending:
            assert len(self.state.admit(count, self.ready, now=self.now)) <= count

    @rule(reached=st.booleans())
    def save(self, *, reached: bool) -> None:
        update = self.state.take_update()
        if not reached:
            self.state.restore(update)
            return
        self.written = update
        self.finished += [one.chat_id for one in update.outcomes]
        started = self.state.start_pending()
        assert set(started) <= set(update.in_flight)
        self.called |= set(started)

    @precondition(lambda self: self.called)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        chat_id = data.draw(st.sampled_from(sorted(self.called)))
        self.called.discard(chat_id)
        self.state.finish(Delivery(chat_id=chat_id, outcome=DeliveryStatus.SENT))

    @precondition(lambda self: self.called)
    @rule(data=st.data(), error=st.sampled_from(ERRORS), dice=st.floats(0, 0.99), circuit_open=st.booleans())
    def fail(self, data: st.DataObject, error: TelewarmError, dice: float, *, circuit_open: bool) -> None:
        chat_id = data.draw(st.sampled_from(sorted(self.called)))
        self.called.discard(chat_id)
        self.state.retry(chat_id, error, now=self.now, dice=dice, circuit_open=circuit_open)

    @precondition(lambda self: self.called)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        chat_id = data.draw(st.sampled_from(sorted(self.called)))
        self.called.discard(chat_id)
        self.state.requeue([chat_id])

    @rule(seconds=st.floats(0, 4000))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def each_is_in_one_place(self) -> None:
        if not hasattr(self, "state"):
            return
        places = [
            *self.state.pending,
            *self.state.in_flight,
            *self.state.retries.chat_ids(),
            *(one.chat_id for one in self.state.outcomes),
            *self.finished,
            *(one.chat_id for one in self.ready),
        ]
        assert sorted(places) == self.everybody

    @invariant()
    def nobody_is_called_who_is_not_written_down(self) -> None:
        if hasattr(self, "state"):
            assert self.called == self.state.in_flight
            assert self.called <= set(self.written.in_flight)


TestRun = Run.TestCase
TestRun.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
