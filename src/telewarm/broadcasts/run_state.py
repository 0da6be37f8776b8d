"""State of one run of a broadcast, and what of it is to be written. Pure: time and dice are arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from telewarm.broadcasts import policy
from telewarm.broadcasts.retry_queue import RetryQueue
from telewarm.database.broadcast_runs import Recipient, RunUpdate
from telewarm.errors import TelewarmError
from telewarm.models import ChatId, Delivery, DeliveryStatus


class RunState:
    """A recipient is in one place: pending, in flight, in the retry queue, or finished.

    `pending`: admitted, and perhaps not written down yet. `in_flight`: written down and being called. No recipient is
    called before an update that names it is written, so that a crash leaves `unknown` and never a duplicate.
    `cursor`: the last recipient that was read from the list.
    """

    def __init__(self, *, cursor: ChatId, retry_chat_ids: Iterable[ChatId]) -> None:
        self.cursor = cursor
        self.pending: list[ChatId] = []
        self.in_flight: set[ChatId] = set()
        self.retries = RetryQueue(retry_chat_ids)
        self.outcomes: list[Delivery] = []  # not written yet
        self._retries_dirty = False

    @property
    def needs_update(self) -> bool:
        """Whether there is something to write."""
        return bool(self.outcomes or self.pending or self._retries_dirty)

    def admissible(self, ready: int, *, now: float) -> int:
        """Recipients that could be called now: due retries, and `ready` new ones unless too many wait already."""
        due = 0 if self.retries.due_at > now else len(self.retries)
        return due + (0 if self.retries.is_full else ready)

    def skip_unreachable(self, ready: deque[Recipient]) -> None:
        """Finish the next recipients whose chat status says that they cannot be reached: without a call."""
        while ready and (error := ready[0].error) is not None:
            skipped = ready.popleft()
            self.cursor = skipped.chat_id
            self.outcomes.append(
                Delivery(
                    chat_id=skipped.chat_id, outcome=DeliveryStatus.SKIPPED, error=error, moved_to=skipped.moved_to
                )
            )

    def admit(self, count: int, ready: deque[Recipient], *, now: float) -> Sequence[ChatId]:
        """Make at most `count` recipients pending: due retries first, then new ones."""
        admitted = self.retries.take(count, now=now)
        while len(admitted) < count and ready and ready[0].error is None:
            self.cursor = ready.popleft().chat_id
            admitted.append(self.cursor)
        self.pending.extend(admitted)
        return admitted

    def take_update(self) -> RunUpdate:
        """Everything that is to be written now."""
        outcomes, self.outcomes, self._retries_dirty = self.outcomes, [], False
        return RunUpdate(
            in_flight=[*self.in_flight, *self.pending],
            retry_chat_ids=self.retries.chat_ids(),
            cursor=self.cursor,
            outcomes=outcomes,
        )

    def restore(self, update: RunUpdate) -> None:
        """An update was not written: its outcomes are to be written again."""
        self.outcomes = [*update.outcomes, *self.outcomes]
        self._retries_dirty = True

    def start_pending(self) -> Sequence[ChatId]:
        """The pending recipients are in flight from now on."""
        started, self.pending = self.pending, []
        self.in_flight.update(started)
        return started

    def drop_pending(self) -> Sequence[ChatId]:
        """The pending recipients are not called."""
        dropped, self.pending = self.pending, []
        return dropped

    def forget(self, chat_ids: Iterable[ChatId]) -> None:
        """Recipients that another holder of the run takes care of."""
        self.in_flight.difference_update(chat_ids)

    def requeue(self, chat_ids: Iterable[ChatId]) -> None:
        """Recipients that were admitted and were not called: they are due at once."""
        for chat_id in chat_ids:
            self.in_flight.discard(chat_id)
            self.retries.add(chat_id, due_at=0.0)
            self._retries_dirty = True

    def finish(self, delivery: Delivery) -> None:
        self.in_flight.discard(delivery.chat_id)
        self.retries.forget(delivery.chat_id)
        self.outcomes.append(delivery)

    def retry(self, chat_id: ChatId, error: TelewarmError, *, now: float, dice: float, circuit_open: bool) -> None:
        """Nothing went to this recipient, for sure. `circuit_open`: Telegram is away, which nobody fails for."""
        self.in_flight.discard(chat_id)
        attempt = self.retries.attempt_of(chat_id, now=now)
        attempt.failures += 1
        if not circuit_open and policy.should_give_up(error, tries=attempt.failures, age=now - attempt.first):
            self.finish(Delivery(chat_id=chat_id, outcome=DeliveryStatus.FAILED, error=policy.error_text(error)))
            return
        self.retries.add(chat_id, due_at=now + policy.retry_in(error, tries=attempt.failures, dice=dice))
        self._retries_dirty = True
