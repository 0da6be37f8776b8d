"""Import of recipients in batches with a transaction each, so that memory and locks stay small."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from telewarm import clock
from telewarm.broadcasts.recipients import ListFacts, ListFormat, RecipientReader
from telewarm.broadcasts.rows import RowBuffer
from telewarm.database import broadcasts, recipients
from telewarm.database.connection import Pool
from telewarm.database.recipients import RejectedRow
from telewarm.errors import Conflict, UsageError
from telewarm.models import BroadcastId, BroadcastState, ChatId

log = structlog.get_logger(__name__)

BATCH_ROWS = 50_000  # rows of one transaction
MAX_SHOWN_REJECTED = 20  # rejected rows in the response
MAX_SAMPLES = 3  # chat ids in the response
ANALYZE_MIN_ROWS = 10_000  # rows from which on the table is analysed


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """Result of an import. `duplicates`: chats that the broadcast had already. `first_rejected`: at most 20.

    `column`: where the chat ids were; None for a list of nothing else. `samples`: the first chat ids, at most 3.
    `guess`: why a person should check them before sending; None when there is no doubt.
    """

    added: int
    duplicates: int
    rejected: int
    first_rejected: Sequence[RejectedRow]
    format: ListFormat | None = None
    column: str | None = None
    samples: Sequence[ChatId] = ()
    guess: str | None = None


class RecipientImport:
    """Import of one list into a broadcast, or into several by the bots that its rows name."""

    def __init__(
        self,
        *,
        pool: Pool,
        broadcast_id: BroadcastId,
        by_bot: Mapping[str, BroadcastId],
        on_rows: Callable[[int], None] | None,
    ) -> None:
        self._pool = pool
        self._broadcast_id = broadcast_id
        self._by_bot = by_bot
        self._on_rows = on_rows
        self._given = self._added = self._rejected = 0
        self._first_rejected: list[RejectedRow] = []
        self._samples: list[ChatId] = []
        self._noted = False

    async def stream(self, reader: RecipientReader, chunks: AsyncIterator[bytes]) -> ImportResult:
        """Import a stream. When it breaks off, complete rows are stored; an incomplete last row is not."""
        try:
            async for chunk in chunks:
                await self._follow(reader.feed(chunk), reader.rows, reader)
            reader.end()
        except Exception as error:
            if not isinstance(error, UsageError):
                with suppress(UsageError):
                    reader.cut_off()
            await self._store(reader.rows, reader)
            raise
        await self._store(reader.rows, reader)
        return await self._loaded(reader.facts)

    async def rows(self, steps: Iterator[None], rows: RowBuffer) -> ImportResult:
        """Import rows that `steps` puts into the buffer."""
        await self._follow(steps, rows)
        await self._store(rows)
        return await self._loaded(None)

    async def _note_guess(self, guess: str) -> None:
        """Store the guess before any of the rows, so that the broadcast cannot start without confirmation."""
        if not self._noted:
            await broadcasts.save_guess(self._pool, sorted({self._broadcast_id, *self._by_bot.values()}), guess)
            self._noted = True

    async def _follow(self, steps: Iterator[None], rows: RowBuffer, reader: RecipientReader | None = None) -> None:
        for _ in steps:
            if rows.held >= BATCH_ROWS:
                await self._store(rows, reader)
            await clock.sleep(0)  # let other tasks run

    async def _store(self, rows: RowBuffer, reader: RecipientReader | None = None) -> None:
        if rows.held and reader is not None and (guess := reader.facts.guess) is not None:
            await self._note_guess(guess)
        chat_ids, of_bots, rejected = rows.drain()
        if chat_ids or rejected:
            await self._store_in(self._broadcast_id, chat_ids, rejected)
        for bot, theirs in of_bots.items():
            await self._store_in(self._by_bot[bot], theirs, [])
        if self._on_rows is not None:
            self._on_rows(rows.read)

    async def _store_in(
        self, broadcast_id: BroadcastId, chat_ids: Sequence[ChatId], rejected: Sequence[RejectedRow]
    ) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            broadcast = await broadcasts.lock(connection, broadcast_id)
            if broadcast.state is not BroadcastState.DRAFT:
                raise Conflict(
                    f"broadcast {broadcast_id} is {broadcast.state} and takes no more recipients;"
                    " create another for them"
                )
            added = await recipients.add(connection, broadcast_id, chat_ids) if chat_ids else 0
            if rejected:
                await recipients.add_rejected(connection, broadcast_id, rejected)
        self._given += len(chat_ids)
        self._samples = list(dict.fromkeys([*self._samples, *chat_ids[: 10 * MAX_SAMPLES]]))[:MAX_SAMPLES]
        self._added += added
        self._rejected += len(rejected)
        self._first_rejected += rejected[: MAX_SHOWN_REJECTED - len(self._first_rejected)]

    async def _loaded(self, facts: ListFacts | None) -> ImportResult:
        if self._added >= ANALYZE_MIN_ROWS:
            await recipients.analyze(self._pool)
        loaded = ImportResult(
            added=self._added,
            duplicates=self._given - self._added,
            rejected=self._rejected,
            first_rejected=tuple(self._first_rejected),
            format=None if facts is None else facts.format,
            column=None if facts is None else facts.column,
            samples=tuple(self._samples),
            guess=None if facts is None else facts.guess,
        )
        log.info(
            "broadcast_list_loaded",
            broadcast_id=self._broadcast_id,
            added=loaded.added,
            duplicates=loaded.duplicates,
            rejected=loaded.rejected,
            column=loaded.column,
            guess=loaded.guess,
        )
        return loaded
