"""Queues without lanes, for the benchmarks of the database: bots whose media are due, and nobody who warms them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from telewarm.database import warmups
from telewarm.database.connection import Pool
from telewarm.database.embedded.server import EmbeddedPostgres
from telewarm.database.migrate import migrate
from telewarm.database.pool import connect, open_pool
from telewarm.models import (
    Blob,
    BotId,
    ClaimedMedia,
    FileId,
    Kind,
    MediaId,
    MediaMetadata,
    MessageId,
    MessageRef,
    Sha256,
    UploadMethod,
    UploadResult,
)
from telewarm_benchmarks.stage import fresh_folder, warmup_chat

CHAT = warmup_chat(0)
TABLES = ("bot", "lease", "blob", "media", "media_count", "media_count_delta")
BOTS = "INSERT INTO bot (slug, telegram_id, token_sealed, warmup_chats) SELECT 'bench-' || n, n, '', ARRAY[{chat}]"
FILL = """
INSERT INTO blob (sha256, bytes, mime, ext, storage_key)
SELECT encode(sha256(n::text::bytea), 'hex'), 1000, 'image/jpeg', 'jpg', 'key-' || n
FROM generate_series(1, {due}) AS n;

INSERT INTO media (bot_id, sha256, kind, state, priority, queued_at)
SELECT 1 + n % {bots}, encode(sha256(n::text::bytea), 'hex'), 'photo', 'warming',
       (1000 * extract(epoch FROM now()))::bigint + n, now()
FROM generate_series(1, {due}) AS n;
"""


# As on a server that has run for a while: a statement's cost is its own, and not that of the first look at a page.
IN_MEMORY = """
CREATE EXTENSION IF NOT EXISTS pg_prewarm;
SELECT pg_prewarm(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """A database of its own. Its `due` media have the ids from 1 on, and so have its bots."""

    pool: Pool
    lease: UUID
    bots: Sequence[BotId]
    due: int

    async def claim(self, limit: int, *, bot: BotId | None = None) -> list[ClaimedMedia]:
        """Of the first bot, if none is named."""
        return await warmups.claim(
            self.pool, bot_id=bot or self.bots[0], limit=limit, lease_id=self.lease, sharing_bots=[], chats=[CHAT]
        )


@asynccontextmanager
async def server(*, durable: bool) -> AsyncIterator[str]:
    """The URL of a fresh PostgreSQL. Not `durable`: its disk waits for nothing, which makes a long day shorter."""
    async with fresh_folder() as folder:
        embedded = await EmbeddedPostgres.start(folder / "postgres", durable=durable)
        try:
            yield embedded.url
        finally:
            await embedded.stop()


@asynccontextmanager
async def queue(server_url: str, name: str, *, due: int, bots: int = 1) -> AsyncIterator[Queue]:
    """A new database of this name, its media dealt out to the bots."""
    maintenance = await connect(server_url, application_name="bench", statement_timeout=0)
    await maintenance.execute(f"CREATE DATABASE {name}")
    await maintenance.close()
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    await migrate(url)
    pool = await open_pool(url, max_size=2, application_name="bench", statement_timeout=0)
    try:
        await pool.execute(BOTS.format(chat=CHAT) + f" FROM generate_series(1, {bots}) AS n")
        await pool.execute(FILL.format(due=due, bots=bots))
        lease = uuid4()
        await pool.execute("INSERT INTO lease VALUES ($1, 'bench', now() + interval '1 day')", lease)
        await warmups.merge_count_deltas(pool)
        for table in TABLES:
            await pool.execute(f"VACUUM (ANALYZE) {table}")
        await pool.execute(IN_MEMORY)
        yield Queue(pool=pool, lease=lease, bots=[BotId(1 + number) for number in range(bots)], due=due)
    finally:
        await pool.close()


def blob(seed: str, *, size: int) -> Blob:
    sha256 = Sha256(hashlib.sha256(seed.encode()).hexdigest())
    facts = MediaMetadata(bytes=size, mime="image/jpeg", ext="jpg", width=64, height=48)
    return Blob(sha256=sha256, storage_key=f"key-{sha256}", thumbnail_key=None, facts=facts)


def upload_result(media_id: MediaId, file_id: str) -> UploadResult:
    """As Telegram would answer: ids as long as its."""
    return UploadResult(
        media_id=media_id,
        way=UploadMethod.UPLOAD,
        file_id=FileId(f"{file_id:A<80}"),
        file_unique_id=f"{file_id:Q<16}",
        kind=Kind.PHOTO,
        message=MessageRef(chat_id=CHAT, message_id=MessageId(1)),
        in_warmup_chat=True,
    )
