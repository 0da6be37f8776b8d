"""Sender of a broadcast's message to one recipient, which interprets the responses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import structs

from telewarm.broadcasts import policy
from telewarm.broadcasts.context import BroadcastContext
from telewarm.broadcasts.policy import Abort, Retry, SendDecision
from telewarm.broadcasts.refusals import RefusalCounter, refusal_of
from telewarm.broadcasts.run_store import RunStore
from telewarm.database.transient import as_unavailable_error
from telewarm.errors import ChatMigrated, InvalidBotToken, TelewarmError
from telewarm.flood_control.circuit_breaker import CircuitBreaker
from telewarm.flood_control.priority import Priority
from telewarm.models import Broadcast, ChatId, Delivery, DeliveryStatus
from telewarm.sending.messages import AlbumStep, Step
from telewarm.sending.send_context import OnCold, SendResult
from telewarm.telegram.effect import Effect, effect_of

MAX_CHAT_WAIT_SECONDS = 5.0  # of one message for its chat; a recipient that would wait longer is retried later
MAX_SET_WAIT_SECONDS = 60.0  # of several messages: a recipient of the first gets the rest


class RecipientSender:
    """`on_abort`: called with an error that stops the broadcast although its recipient counts as failed."""

    def __init__(
        self,
        context: BroadcastContext,
        broadcast: Broadcast,
        *,
        store: RunStore,
        breaker: CircuitBreaker,
        on_abort: Callable[[TelewarmError], None],
    ) -> None:
        self._context = context
        self.broadcast = broadcast
        self._store = store
        self._breaker = breaker
        self._on_abort = on_abort
        reached = bool(broadcast.counts[DeliveryStatus.SENT])
        self._refusals = RefusalCounter(known=broadcast.refusal, reached=reached)
        self._plan: Sequence[Step] = ()
        self.weight = 1  # messages a recipient

    async def prepare(self) -> None:
        """Plan the message before the first delivery. Raises TelewarmError for a message that cannot be sent."""
        self._plan = await self._context.sender.planned(self._context.session, self.broadcast.message)
        self.weight = sum(len(step.items) if isinstance(step, AlbumStep) else 1 for step in self._plan) or 1

    async def deliver(self, chat_id: ChatId) -> SendDecision:
        """Send the message to a chat and interpret the results."""
        api = self._context.session.api
        results = await self._send(chat_id, follow=False)
        if isinstance(migrated := results[0].error, ChatMigrated):
            return await self._deliver_to_migrated(chat_id, ChatId(migrated.migrate_to_chat_id))
        self._report_to_breaker(chat_id, results[-1])
        decision = self._decide(chat_id, results)
        replaced = self._context.session.api is not api
        if isinstance(decision, Abort) and isinstance(decision.error, InvalidBotToken) and replaced:
            return Retry(error=decision.error)  # the bot got another token meanwhile
        return decision

    async def _deliver_to_migrated(self, chat_id: ChatId, moved_to: ChatId) -> SendDecision:
        """Send to the supergroup that the group became, unless that is a recipient of its own."""
        try:
            is_recipient = await self._store.is_recipient(moved_to)
        except Exception as error:
            if (outage := as_unavailable_error(error)) is None:
                raise
            return Retry(error=outage)
        if is_recipient:
            return policy.migrated_delivery(chat_id, moved_to)
        results = await self._send(moved_to, follow=True)
        self._report_to_breaker(chat_id, results[-1])
        decision = self._decide(chat_id, results)
        return structs.replace(decision, moved_to=moved_to) if isinstance(decision, Delivery) else decision

    def _decide(self, chat_id: ChatId, results: Sequence[SendResult]) -> SendDecision:
        """Interpret the results. A refusal of the message itself aborts the broadcast, and fails no recipient."""
        decision = policy.decide(chat_id, results)
        if (error := refusal_of(results)) is None:
            if isinstance(decision, Delivery) and decision.outcome is DeliveryStatus.SENT:
                self._refusals.succeeded()
        elif self._refusals.refused(error) and isinstance(decision, Delivery):
            if decision.outcome is DeliveryStatus.FAILED:
                return Abort(error=error)
            self._on_abort(error)
        return decision

    def _send(self, chat_id: ChatId, *, follow: bool) -> Awaitable[list[SendResult]]:
        return self._context.sender.send_plan(
            self._context.session,
            chat_id,
            self._plan,
            on_cold=OnCold.UPLOAD,
            patience=MAX_CHAT_WAIT_SECONDS if self.weight == 1 else MAX_SET_WAIT_SECONDS,
            priority=Priority.DELIVERY,
            follow=follow,
        )

    def _report_to_breaker(self, chat_id: ChatId, last: SendResult) -> None:
        if last.error is None or effect_of(last.error) is Effect.CERTAIN:
            self._breaker.succeeded(chat_id)
        else:
            self._breaker.failed(chat_id, last.error)
