"""Batch writer of chat statuses that sends discover, and the current id of migrated groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import NamedTuple, TypeAlias

import structlog

from telewarm import background, clock
from telewarm.database import chats
from telewarm.database.batch_writer import BatchWriter
from telewarm.database.chats import ReachableChat, UnreachableChat
from telewarm.database.connection import Pool
from telewarm.database.notifications import subscribe
from telewarm.database.retry import log_transient
from telewarm.errors import ChatUnreachable
from telewarm.models import BotId, ChatId, ChatState
from telewarm.text import storable

log = structlog.get_logger(__name__)
Key = tuple[BotId, ChatId]

FLUSH_INTERVAL_SECONDS = 1.0  # seconds between two writes
FLUSH_AT_ROWS = 5_000  # chats; more are written before the interval ends
ROWS_PER_STATEMENT = 5_000  # chats of one statement
MAX_ROWS = 50_000  # chats of either sort kept while the database is away; the oldest go first
FINAL_WRITE_SECONDS = 5.0  # seconds that the final write may take
MAX_REASON_CHARACTERS = 500  # characters of Telegram's description that are kept

UNREACHABLE_STATES = frozenset(ChatState) - {ChatState.REACHABLE, ChatState.MIGRATED}
UNREACHABLE_BY_REASON = {
    state.value: state for state in UNREACHABLE_STATES
}  # keys: reasons of ChatUnreachable; `no_rights` says nothing about the chat


class UnreachableRecord(NamedTuple):
    """An unreachable chat: its state, the reason and when it was seen."""

    state: ChatState
    reason: str
    migrated_to: ChatId | None
    at: float


Row: TypeAlias = tuple[Key, UnreachableRecord | float]  # float: the chat was reached then, by the monotonic clock


class ChatStatusWriter:
    """Collects chat statuses from every send, without waiting. Writes only while `running` is active."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._unreachable: dict[Key, UnreachableRecord] = {}  # a chat is here or in the next, by its latest status
        self._reached: dict[Key, float] = {}  # time of the last success, by the monotonic clock
        self._moved: dict[Key, ChatId] = {}
        self._notified_during_read: list[str] | None = None  # notifications received while the migrations are read
        self._migrations_stale = True  # whether the migrations have to be read again
        self._stopping = False
        self._flush_requested = asyncio.Event()
        self._writer = BatchWriter(
            self, self._write_batch, name="chat status", max_batch=ROWS_PER_STATEMENT, describe=lambda row: row[0]
        )

    def note_failure(self, bot_id: BotId, chat_id: ChatId, error: ChatUnreachable) -> None:
        """Record that Telegram cannot deliver to a chat."""
        state = UNREACHABLE_BY_REASON.get(error.reason)
        if state is not None:
            self._note_unreachable(
                bot_id, chat_id, UnreachableRecord(state, error.description, None, clock.monotonic())
            )

    def note_migration(self, bot_id: BotId, old: ChatId, new: ChatId) -> None:
        """Record that a group has become a supergroup with another id."""
        if old != new:
            self._moved[bot_id, old] = new
            words = "group chat was upgraded to a supergroup chat"
            self._note_unreachable(bot_id, old, UnreachableRecord(ChatState.MIGRATED, words, new, clock.monotonic()))

    def note_reached(self, bot_id: BotId, chat_id: ChatId) -> None:
        """Record a successful send to a chat."""
        key = (bot_id, chat_id)
        if self._unreachable and key in self._unreachable:
            if self._unreachable[key].state is ChatState.MIGRATED:
                return
            del self._unreachable[key]
        reached = self._reached
        reached[key] = clock.monotonic()
        if len(reached) >= FLUSH_AT_ROWS:
            self._maybe_flush(reached)

    def moved_to(self, bot_id: BotId, chat_id: ChatId) -> ChatId:
        """Return the current id of a migrated group, or the chat itself if it has not migrated."""
        moved = self._moved
        if not moved or (bot_id, chat_id) not in moved:
            return chat_id
        seen = {chat_id}
        now = chat_id
        while (then := moved.get((bot_id, now))) is not None:
            if then in seen:  # a cycle has no end: let Telegram tell the group's id
                return chat_id
            seen.add(then)
            now = then
        return now

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read the migrations, listen for new ones and write in the background; flush on exit."""
        async with subscribe(self._pool, {chats.CHANNEL: self._on_notification}, on_lost=self._mark_migrations_stale):
            await self._read_migrations()
            self._stopping = False
            task = background.start(self._write_loop(), name="chat statuses")
            try:
                yield
            finally:
                self._stopping = True
                self._flush_requested.set()
                await asyncio.wait([task])
                task.result()

    def _note_unreachable(self, bot_id: BotId, chat_id: ChatId, record: UnreachableRecord) -> None:
        key = (bot_id, chat_id)
        if not -(2**63) <= chat_id < 2**63:  # no chat has such an id, and the column could not hold it
            return
        known = self._unreachable.get(key)
        if known is not None and known.migrated_to is not None and record.migrated_to is None:
            return
        self._reached.pop(key, None)
        self._unreachable[key] = record
        if len(self._unreachable) >= FLUSH_AT_ROWS:
            self._maybe_flush(self._unreachable)

    def _maybe_flush(self, noted: dict[Key, UnreachableRecord] | dict[Key, float]) -> None:
        """Request a flush; drop the oldest entries above the maximum."""
        self._flush_requested.set()
        if len(noted) > MAX_ROWS:
            for key in list(islice(noted, MAX_ROWS // 10)):
                del noted[key]

    async def _write_loop(self) -> None:
        away = False
        while not self._stopping:
            if away:  # while the database is unavailable, a full buffer does not shorten the interval
                self._flush_requested.clear()
            await clock.wait(self._flush_requested, FLUSH_INTERVAL_SECONDS)
            self._flush_requested.clear()
            away = not await self._write()
        for _ in range(2):
            try:
                async with asyncio.timeout(FINAL_WRITE_SECONDS):
                    if await self._write():
                        return
            except TimeoutError:
                break
        log.warning("chat_status_dropped", lost=len(self._unreachable), reached=len(self._reached))

    async def _write(self) -> bool:
        """Write everything that is buffered. Returns whether the database accepted it."""
        if self._migrations_stale:
            with log_transient("chat_migrations_unread"):
                await self._read_migrations()
            if self._migrations_stale:
                return False
        return await self._writer.flush()

    async def _write_batch(self, rows: Sequence[Row]) -> None:
        lost = sorted((key, record) for key, record in rows if isinstance(record, UnreachableRecord))
        reached = sorted((key, at) for key, at in rows if isinstance(at, float))
        async with self._pool.acquire() as connection:
            now = clock.monotonic()  # ages count from the statement on, not from the request for a connection
            if lost:
                await chats.record_unreachable(connection, [_to_row(key, record, now) for key, record in lost])
            if reached:
                await chats.record_reachable(connection, [ReachableChat(*key, now - at) for key, at in reached])

    def take(self, limit: int) -> list[Row]:
        """Remove and return buffered records, `limit` at most."""
        rows: list[Row] = []
        for records in (self._unreachable, self._reached):
            keys = list(islice(records, limit - len(rows)))
            rows += [(key, records.pop(key)) for key in keys]
        return rows

    def put_back(self, rows: Sequence[Row]) -> None:
        """Buffer records again after a failed write. Newer ones win, except that a migration stays."""
        newer = self._unreachable.keys() | self._reached.keys()
        lost = {key: one for key, one in rows if isinstance(one, UnreachableRecord)}
        self._unreachable = {
            key: record for key, record in lost.items() if record.migrated_to or key not in newer
        } | self._unreachable
        reached = {key: at for key, at in rows if isinstance(at, float) and key not in newer}
        self._reached = reached | self._reached

    async def _read_migrations(self) -> None:
        """Read the migrations of all bots; those notified meanwhile are newer and win."""
        heard: list[str] = []
        self._notified_during_read = heard
        self._migrations_stale = False
        try:
            moved = {(bot_id, old): new for bot_id, old, new in await chats.migrations(self._pool)}
        except BaseException:
            self._migrations_stale = True
            raise
        finally:
            self._notified_during_read = None
        own = {key: loss.migrated_to for key, loss in self._unreachable.items() if loss.migrated_to is not None}
        self._moved = moved | own
        for payload in heard:
            self._on_notification(payload)

    def _on_notification(self, payload: str) -> None:
        """Apply a NOTIFY payload."""
        if self._notified_during_read is not None:
            self._notified_during_read.append(payload)
        bot_id, old, new = map(int, payload.split(" "))
        key = (BotId(bot_id), ChatId(old))
        if old == new:
            self._moved.pop(key, None)
        else:
            self._moved[key] = ChatId(new)

    def _mark_migrations_stale(self) -> None:
        """Handle a lost LISTEN connection: known migrations stay valid, others may be missing."""
        self._migrations_stale = True


def _to_row(key: Key, record: UnreachableRecord, now: float) -> UnreachableChat:
    words = storable(record.reason)[:MAX_REASON_CHARACTERS]
    return UnreachableChat(
        bot_id=key[0],
        chat_id=key[1],
        state=record.state,
        reason=words,
        migrated_to=record.migrated_to,
        age_seconds=now - record.at,
    )
