"""State of one run of a broadcast, and its unwritten changes. Pure: time and random number are arguments."""

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

    `pending`: admitted, and perhaps not written yet. `in_flight`: written and being called. No recipient is called
    before an update that names it is written, so that a crash leaves `unknown` and never a duplicate. `cursor`: the
    last recipient that was read from the list.
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
        """Return how many could be called now: due retries and, unless the retry queue is full, `ready` new ones."""
        due = 0 if self.retries.due_at > now else len(self.retries)
        return due + (0 if self.retries.is_full else ready)

    def skip_unreachable(self, ready: deque[Recipient]) -> None:
        """Finish the next recipients whose chats are known to be unreachable, without a call."""
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
        """Return everything that is to be written now."""
        outcomes, self.outcomes, self._retries_dirty = self.outcomes, [], False
        return RunUpdate(
            in_flight=[*self.in_flight, *self.pending],
            retry_chat_ids=self.retries.chat_ids(),
            cursor=self.cursor,
            outcomes=outcomes,
        )

    def restore(self, update: RunUpdate) -> None:
        """Take back an update that was not written."""
        self.outcomes = [*update.outcomes, *self.outcomes]
        self._retries_dirty = True

    def start_pending(self) -> Sequence[ChatId]:
        """Move the pending recipients in flight."""
        started, self.pending = self.pending, []
        self.in_flight.update(started)
        return started

    def drop_pending(self) -> Sequence[ChatId]:
        """Remove the pending recipients uncalled."""
        dropped, self.pending = self.pending, []
        return dropped

    def forget(self, chat_ids: Iterable[ChatId]) -> None:
        """Forget recipients that another holder of the run takes over."""
        self.in_flight.difference_update(chat_ids)

    def requeue(self, chat_ids: Iterable[ChatId]) -> None:
        """Queue admitted, uncalled recipients for an immediate retry."""
        for chat_id in chat_ids:
            self.in_flight.discard(chat_id)
            self.retries.add(chat_id, due_at=0.0)
            self._retries_dirty = True

    def finish(self, delivery: Delivery) -> None:
        """Set the outcome of a recipient."""
        self.in_flight.discard(delivery.chat_id)
        self.retries.forget(delivery.chat_id)
        self.outcomes.append(delivery)

    def retry(self, chat_id: ChatId, error: TelewarmError, *, now: float, dice: float, circuit_open: bool) -> None:
        """Queue a recipient to whom surely nothing was sent, or fail it.

        `circuit_open`: Telegram is down; nobody fails.
        """
        self.in_flight.discard(chat_id)
        attempt = self.retries.attempt_of(chat_id, now=now)
        attempt.failures += 1
        if not circuit_open and policy.should_give_up(error, tries=attempt.failures, age=now - attempt.first):
            self.finish(Delivery(chat_id=chat_id, outcome=DeliveryStatus.FAILED, error=policy.error_text(error)))
            return
        self.retries.add(chat_id, due_at=now + policy.retry_in(error, tries=attempt.failures, dice=dice))
        self._retries_dirty = True
