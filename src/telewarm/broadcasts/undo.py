"""Undo of a broadcast: deletes its messages where Telegram lets bots delete."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from telewarm import clock
from telewarm.broadcasts.context import BroadcastContext
from telewarm.broadcasts.policy import retry_in
from telewarm.broadcasts.run_store import RunStore
from telewarm.broadcasts.state_machine import UNDO_WITHIN_SECONDS
from telewarm.database import broadcast_runs
from telewarm.database.broadcast_runs import ClaimedRun, UndoableDelivery
from telewarm.errors import (
    BotDeleted,
    FloodWait,
    InvalidBotToken,
    TelegramError,
    TelegramServerError,
    TelegramUnreachable,
)
from telewarm.flood_control.priority import Priority
from telewarm.models import Broadcast, BroadcastState, ChatId
from telewarm.sending.rate_limited_call import SendSlot, with_rate_limit

log = structlog.get_logger(__name__)

MAX_MESSAGES_PER_CALL = 100  # messages of one call
MAX_WAIT_SECONDS = 600.0  # seconds for which a call waits for the limits before the state is checked
NOTIFY_INTERVAL_SECONDS = 1.0  # seconds between two progress NOTIFYs
TOKEN_RETRY_SECONDS = 30.0  # seconds before an invalid token is tried again
RETRYABLE = (FloodWait, TelegramUnreachable, TelegramServerError)  # deleting twice does no harm


@dataclass(frozen=True, kw_only=True, slots=True)
class UndoResult:
    """Result of one chat. `kept`: messages that could not be deleted."""

    chat_id: ChatId
    kept: int


class UndoRunner:
    """Deletes page by page, in the order of chats. A crash repeats at most one page."""

    def __init__(self, context: BroadcastContext, broadcast: Broadcast, claimed: ClaimedRun) -> None:
        self._context = context
        self._store = RunStore(context.pool, broadcast.id, context.lease.id)
        self._cursor = claimed.undo_cursor
        self._stopping = False
        self._calls: set[asyncio.Task[UndoResult | None]] = set()
        self._notified_at = 0.0
        self._log = log.bind(bot=context.session.bot.slug, broadcast_id=broadcast.id)
        self.retry_in: float | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the undo has had nothing to do for a while, so that another broadcast may take its slot."""
        return False

    @property
    def in_flight(self) -> int:
        """Number of deletions in flight."""
        return len(self._calls)

    @property
    def held(self) -> int:
        """Number of chats that wait: none."""
        return 0

    def nudge(self) -> None:
        """Ignore: nothing can change an undo."""

    def stop(self) -> None:
        """Start no more deletions; the run is released."""
        self._stopping = True
        self.abort()

    def abort(self) -> None:
        """Stop, and cancel the deletions in flight."""
        self._stopping = True
        for call in self._calls:
            call.cancel()

    async def run(self) -> None:
        """Run until all messages are deleted, the runner is stopped, or the lease is lost."""
        while not self._stopping:
            page = await self._store.retry(self._page)
            if not page:
                break
            if not await self._undo(page):
                return
        if self._stopping:
            await self._store.release()
        elif await self._store.finish(BroadcastState.UNDONE):
            broadcast = await self._store.broadcast()
            self._log.info("broadcast_undone", counts=dict(broadcast.counts), not_undone=broadcast.not_undone)

    def _page(self) -> Awaitable[list[UndoableDelivery]]:
        return broadcast_runs.next_undoable(
            self._context.pool,
            self._store.broadcast_id,
            after=self._cursor,
            max_age_seconds=UNDO_WITHIN_SECONDS,
            limit=self._context.concurrency,
        )

    async def _undo(self, page: Sequence[UndoableDelivery]) -> bool:
        """Delete the messages of a page and record it; when stopped, of its first part. False: the lease is lost."""
        self._calls = {asyncio.create_task(self._delete(one), name="broadcast undo") for one in page if one.deletable}
        try:
            if self._calls:
                await asyncio.wait(self._calls)
        except asyncio.CancelledError:
            self.abort()
            await asyncio.wait(self._calls)
            raise
        finally:
            done = {one.chat_id: one for call in self._calls if not call.cancelled() and (one := call.result())}
            self._calls = set()
        return await self._write(page, done)

    async def _write(self, page: Sequence[UndoableDelivery], done: dict[ChatId, UndoResult]) -> bool:
        undone, kept, cursor = [], 0, self._cursor
        for one in page:
            if one.deletable and one.chat_id not in done:
                break  # stopped: the rest of the page is repeated later
            left = done[one.chat_id].kept if one.deletable else len(one.message_ids)
            kept += left
            if not left:
                undone.append(one.chat_id)
            cursor = one.chat_id
        now = clock.monotonic()
        tell = now - self._notified_at >= NOTIFY_INTERVAL_SECONDS
        self._notified_at = now if tell else self._notified_at
        self._cursor = cursor
        return await self._store.retry(
            partial(
                broadcast_runs.save_undo_progress,
                self._context.pool,
                self._store.broadcast_id,
                self._store.lease_id,
                undone,
                not_undone=kept,
                cursor=cursor,
                notify=tell,
            ),
        )

    async def _delete(self, one: UndoableDelivery) -> UndoResult | None:
        """Delete the messages of one chat. None: the bot may not send now."""
        failures = 0
        while True:
            try:
                for start in range(0, len(one.message_ids), MAX_MESSAGES_PER_CALL):
                    await self._call(one, start)
            except (InvalidBotToken, BotDeleted):
                self.retry_in = TOKEN_RETRY_SECONDS
                self._stopping = True
                return None
            except RETRYABLE as error:
                failures += 1
                await clock.sleep(retry_in(error, tries=failures, dice=random.random()))  # noqa: S311 (jitter)
            except TelegramError as error:
                self._log.info("broadcast_undo_refused", chat_id=one.sent_to, error=error.message)
                return UndoResult(chat_id=one.chat_id, kept=len(one.message_ids))
            else:
                return UndoResult(chat_id=one.chat_id, kept=0)

    async def _call(self, one: UndoableDelivery, start: int) -> None:
        session = self._context.session
        turn = SendSlot(
            session=session,
            chat_id=one.sent_to,
            deadline=clock.monotonic() + MAX_WAIT_SECONDS,
            priority=Priority.DELIVERY,
        )
        await with_rate_limit(
            turn,
            partial(session.api.delete_messages, one.sent_to, one.message_ids[start : start + MAX_MESSAGES_PER_CALL]),
        )
