"""Broadcast service: create, load, start, pause, read. The lanes of the bots do the sending."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Literal, TypeAlias

import structlog

from telewarm import coercion
from telewarm.bots.registry import BotRegistry
from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.drafts import DraftWriter
from telewarm.broadcasts.plans import SendPlan, check_plan, check_time, key_of
from telewarm.broadcasts.recipient_import import BATCH_ROWS, ImportResult, RecipientImport
from telewarm.broadcasts.recipients import ListFormat, RecipientReader, rows_of
from telewarm.broadcasts.rows import RowBuffer
from telewarm.broadcasts.state_machine import DELETABLE, UNDO_WITHIN_SECONDS, Action, transition_from
from telewarm.database import broadcasts, deliveries, recipients, submissions
from telewarm.database.connection import Connection, Pool
from telewarm.database.lane_queue import enqueue_lane
from telewarm.database.recipients import RejectedRow
from telewarm.errors import Conflict, UsageError
from telewarm.media.library import MediaLibrary
from telewarm.models import (
    BotId,
    Broadcast,
    BroadcastId,
    BroadcastState,
    Cause,
    ChatId,
    Delivery,
    DeliveryStatus,
    MessageSet,
)
from telewarm.sending.messages import check_plain
from telewarm.sending.send_context import SendResult
from telewarm.sending.sender import Sender

log = structlog.get_logger(__name__)

OutcomeFilter: TypeAlias = "DeliveryStatus | Literal['pending'] | None"
BEFORE_FIRST_CHAT = ChatId(-(2**62))  # less than every chat id
NOT_SENT = frozenset({BroadcastState.DRAFT, BroadcastState.CANCELLED})
RETRYABLE_OUTCOMES = frozenset({DeliveryStatus.UNKNOWN, DeliveryStatus.FAILED})


class BroadcastService:
    """`on_change`: called after a broadcast has changed its state."""

    def __init__(
        self,
        *,
        pool: Pool,
        bots: BotRegistry,
        sender: Sender,
        library: MediaLibrary,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.on_change = on_change
        self._pool = pool
        self._bots = bots
        self._sender = sender
        self.drafts = DraftWriter(pool=pool, library=library)

    async def create(
        self,
        bots: Sequence[BotSession],
        message: MessageSet,
        *,
        name: str | None = None,
        gate: bool = True,
        per_second: float | None = None,
        starts_at: datetime | None = None,
        key: str | None = None,
    ) -> list[Broadcast]:
        """Create a draft for each bot.

        The media are the first bot's; they are added to the libraries of the other bots.

        `gate`: wait until all media are ready. `per_second`: maximum of messages a second. `key`: an idempotency key; a
        repeated call returns what the first one created, in its present state. Raises UsageError, NotFound, and
        Conflict for a key that belongs to another broadcast.
        """
        plan = SendPlan(name=name, gate=gate, per_second=per_second, starts_at=starts_at)
        check_plan(bots, plan)
        check_plain(message)
        id_key = None if key is None else key_of(key, bots, message, plan)
        if id_key is not None and (made := await broadcasts.by_idempotency_key(self._pool, bots[0].bot.id, id_key)):
            return made
        check_time(starts_at)
        return await self.drafts.create(bots, message, plan, key=id_key)

    async def load(
        self,
        broadcast_id: BroadcastId,
        chunks: AsyncIterator[bytes],
        *,
        format: ListFormat | None = None,  # noqa: A002 - the word that callers look for
        column: str | None = None,
        on_rows: Callable[[int], None] | None = None,
    ) -> ImportResult:
        """Add recipients from a CSV, NDJSON or JSON list of any size; `format` None: detected by the first bytes.

        `column`: the name or the number, from 1, of the column with the chat ids, `*` for every cell; None: detected by
        names and values. When that is a guess, `ImportResult.guess` has the reason, and `start` requires a
        confirmation; when it cannot be decided, nothing is loaded. Rows are stored as they arrive: after a broken
        upload they stay, and the same list may be loaded again. `on_rows`: called with the number of rows read so far.
        Raises NotFound, Conflict when the broadcast was started already, UsageError for a list in no known format.
        """
        loading, bots = await self._loading(broadcast_id, on_rows)
        return await loading.stream(RecipientReader(format, bots=bots, column=column), chunks)

    async def add(self, broadcast_id: BroadcastId, chat_ids: Iterable[ChatId]) -> ImportResult:
        """Add chat ids as `load` does. The line number of a rejected one is its position, from 1."""
        loading, _ = await self._loading(broadcast_id, None)
        rows = RowBuffer()
        return await loading.rows(rows_of(chat_ids, rows, at_once=BATCH_ROWS), rows)

    async def get(self, broadcast_id: BroadcastId) -> Broadcast:
        """Return a broadcast. Raises NotFound, UsageError."""
        return await broadcasts.get(self._pool, BroadcastId(coercion.integer("broadcast_id", broadcast_id)))

    async def page(
        self, *, bot_id: BotId | None = None, limit: int = 50, before: BroadcastId | None = None
    ) -> list[Broadcast]:
        """Return broadcasts, newest first; `before`: only those older than this one."""
        return await broadcasts.page(self._pool, bot_id=bot_id, limit=limit, before=before)

    async def rejected(self, broadcast_id: BroadcastId) -> AsyncIterator[RejectedRow]:
        """Iterate over the rows without a valid chat id, in their original order. Raises NotFound."""
        await self.get(broadcast_id)
        found, after = await recipients.rejected_page(self._pool, broadcast_id, after=0)
        while found:
            for line in found:
                yield line
            found, after = await recipients.rejected_page(self._pool, broadcast_id, after=after)

    async def start(
        self, broadcast_id: BroadcastId, *, starts_at: datetime | None = None, confirm: bool = False
    ) -> Broadcast:
        """Start the broadcast, now or at a time. The time of a scheduled one can be changed.

        `confirm`: a person has checked the chat ids of a list whose column was guessed. Raises NotFound, Conflict.
        """
        check_time(starts_at)
        coercion.integer("broadcast_id", broadcast_id)
        if confirm:
            await broadcasts.confirm_guess(self._pool, broadcast_id)
        return await self._act(Action.START, broadcast_id, starts_at=starts_at)

    async def pause(self, broadcast_id: BroadcastId) -> Broadcast:
        """Pause the broadcast; messages in flight finish. Raises NotFound, Conflict."""
        return await self._act(Action.PAUSE, broadcast_id)

    async def resume(self, broadcast_id: BroadcastId) -> Broadcast:
        """Resume a paused broadcast. Raises NotFound, Conflict."""
        return await self._act(Action.RESUME, broadcast_id)

    async def cancel(self, broadcast_id: BroadcastId) -> Broadcast:
        """Cancel the broadcast for good. Raises NotFound, Conflict."""
        return await self._act(Action.CANCEL, broadcast_id)

    async def undo(self, broadcast_id: BroadcastId) -> Broadcast:
        """Delete the sent messages where Telegram allows it: within 48 hours. Raises NotFound, Conflict."""
        return await self._act(Action.UNDO, broadcast_id)

    async def retry_unknown(self, broadcast_id: BroadcastId) -> Broadcast:
        """Send again to recipients with an unknown outcome, which may cause duplicates. Raises NotFound, Conflict."""
        return await self.retry(broadcast_id, [DeliveryStatus.UNKNOWN])

    async def retry(self, broadcast_id: BroadcastId, outcomes: Collection[DeliveryStatus]) -> Broadcast:
        """Send again to recipients with these outcomes: `failed` ones have surely nothing, `unknown` ones perhaps have.

        Raises NotFound, Conflict, UsageError for an outcome that cannot be retried.
        """
        if not outcomes or not RETRYABLE_OUTCOMES.issuperset(outcomes):
            raise UsageError(
                f"only {' and '.join(sorted(RETRYABLE_OUTCOMES))} recipients can be retried; name one or both"
            )
        return await self._act(Action.RETRY, broadcast_id, outcomes=outcomes)

    async def causes(self, ids: Sequence[BroadcastId], *, most: int = 5) -> dict[BroadcastId, list[Cause]]:
        """Return why recipients of these broadcasts did not receive it: by cause, most frequent first."""
        return await deliveries.failure_causes(self._pool, ids, limit=most)

    async def test(self, broadcast_id: BroadcastId, chat_id: ChatId) -> list[SendResult]:
        """Send the message to one chat now, uncounted. Raises NotFound."""
        broadcast = await self.get(broadcast_id)
        session = await self._bots.get(broadcast.bot_id)
        return await self._sender.send(session, chat_id, broadcast.message)

    async def results(
        self, broadcast_id: BroadcastId, *, outcome: OutcomeFilter = None
    ) -> AsyncIterator[Sequence[Delivery]]:
        """Iterate over the deliveries, page by page in the order of chats.

        `pending`: recipients without an outcome. While the broadcast is being sent, each page is as of its reading.
        Raises NotFound.
        """
        await self.get(broadcast_id)
        page = await _results_page(self._pool, broadcast_id, BEFORE_FIRST_CHAT, outcome)
        while page:
            yield page
            page = await _results_page(self._pool, broadcast_id, page[-1].chat_id, outcome)

    async def delete(self, broadcast_id: BroadcastId, *, only_drafts: bool = False) -> None:
        """Delete a broadcast with its recipients and results; sent messages stay. Raises NotFound, Conflict."""
        coercion.integer("broadcast_id", broadcast_id)
        deletable = NOT_SENT if only_drafts else DELETABLE
        async with self._pool.acquire() as connection, connection.transaction():
            broadcast = await broadcasts.lock(connection, broadcast_id)
            if broadcast.state not in deletable:
                raise Conflict(f"broadcast {broadcast_id} is {broadcast.state}; cancel it before you delete it")
            # Nobody can load or start the draft any more.
            await broadcasts.set_state(
                connection, broadcast_id, BroadcastState.CANCELLED, only_from=[BroadcastState.DRAFT]
            )
        while await deliveries.delete_some(self._pool, broadcast_id):
            pass
        if not await broadcasts.delete(self._pool, broadcast_id, only_in=DELETABLE):
            raise Conflict(f"broadcast {broadcast_id} was started again meanwhile; cancel it before you delete it")
        log.info("broadcast_deleted", broadcast_id=broadcast_id)

    async def _loading(
        self, broadcast_id: BroadcastId, on_rows: Callable[[int], None] | None
    ) -> tuple[RecipientImport, Collection[str]]:
        """Return an import, and the bots that rows may name: those of the broadcasts created together."""
        by_bot = await broadcasts.group_members(self._pool, await self.get(broadcast_id))
        return RecipientImport(pool=self._pool, broadcast_id=broadcast_id, by_bot=by_bot, on_rows=on_rows), by_bot

    async def _act(
        self,
        action: Action,
        broadcast_id: BroadcastId,
        *,
        starts_at: datetime | None = None,
        outcomes: Collection[DeliveryStatus] = (),
    ) -> Broadcast:
        """Change the state in one transaction, which enqueues the bot's lane."""
        session = await self._bots.get((await self.get(broadcast_id)).bot_id)
        async with self._pool.acquire() as connection, connection.transaction():
            before = await broadcasts.lock(connection, broadcast_id)
            step = transition_from(action, before)
            if starts_at is not None:
                await _schedule(connection, before, starts_at)
            if step is not None and await _check_action(connection, action, before, outcomes):
                await broadcasts.set_state(connection, broadcast_id, step.state, only_from=step.leaves)
                if action is Action.START:
                    await submissions.save_fingerprint(connection, before)
            after = await broadcasts.get(connection, broadcast_id)
            changed = (after.state, after.starts_at) != (before.state, before.starts_at)
            if changed:
                await enqueue_lane(connection, session.bot)
        if changed:
            self.on_change()
            log.info("broadcast_state_changed", bot=session.bot.slug, broadcast_id=broadcast_id, state=after.state)
        return after


async def _schedule(connection: Connection, broadcast: Broadcast, starts_at: datetime) -> None:
    if broadcast.state is BroadcastState.RUNNING:
        raise Conflict(f"broadcast {broadcast.id} is on its way already; pause it, and resume it when it is to go on")
    await broadcasts.schedule(connection, broadcast.id, starts_at)


async def _check_action(
    connection: Connection, action: Action, broadcast: Broadcast, outcomes: Collection[DeliveryStatus]
) -> bool:
    """Return whether there is anything to do. Raises Conflict."""
    if action is Action.UNDO and not await deliveries.has_undoable(
        connection, broadcast.id, max_age_seconds=UNDO_WITHIN_SECONDS
    ):
        raise Conflict(
            f"broadcast {broadcast.id} has no message that Telegram lets us delete: it sent none,"
            " or all are older than 48 hours"
        )
    if action is Action.RETRY:
        chats = await deliveries.retry(connection, broadcast.id, outcomes)
        if chats is None:
            raise Conflict(f"what was in flight of broadcast {broadcast.id} is just ending; try again in a few seconds")
        return chats > 0
    return True


async def _results_page(pool: Pool, broadcast_id: BroadcastId, after: ChatId, outcome: OutcomeFilter) -> list[Delivery]:
    if outcome != "pending":
        return await deliveries.page(pool, broadcast_id, after=after, outcome=outcome)
    chats = await deliveries.pending_recipients(pool, broadcast_id, after=after)
    return [Delivery(chat_id=chat_id, outcome=None) for chat_id in chats]
