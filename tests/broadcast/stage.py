"""Broadcasts without the lanes that send them: what a flight would write is written here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.service import BroadcastService
from telewarm.database.connection import Pool
from telewarm.models import Broadcast, BroadcastId, DeliveryStatus, MessageSet
from telewarm.runtime import Telewarm

TEXT = MessageSet(text="hello")


def broadcasts_of(telewarm: Telewarm) -> BroadcastService:
    return BroadcastService(pool=telewarm.pool, bots=telewarm.bots, sender=telewarm.sender, library=telewarm.library)


async def draft(broadcasts: BroadcastService, session: BotSession, *lines: str) -> Broadcast:
    """A broadcast to the chats of a list."""
    [made] = await broadcasts.create([session], TEXT)
    await broadcasts.load(made.id, stream("\n".join(lines).encode()), column="1")
    return await broadcasts.get(made.id)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def cut_off(*chunks: bytes) -> AsyncIterator[bytes]:
    """The client goes away after these."""
    for chunk in chunks:
        yield chunk
    raise ConnectionResetError


async def recipients_of(pool: Pool, broadcast_id: BroadcastId) -> list[int]:
    rows = await pool.fetch("SELECT chat_id FROM recipient WHERE broadcast_id = $1 ORDER BY chat_id", broadcast_id)
    return [row["chat_id"] for row in rows]


async def deliver(
    pool: Pool, broadcast_id: BroadcastId, outcome: DeliveryStatus, *chats: int, age: float = 0.0
) -> None:
    """What a flight would have written of these chats, `age` hours ago."""
    await pool.executemany(
        "INSERT INTO delivery (broadcast_id, chat_id, outcome, message_ids, at)"
        " VALUES ($1, $2, $3, CASE WHEN $3 = 'sent' THEN ARRAY[7] ELSE '{}' END, now() - $4::interval)",
        [(broadcast_id, chat, outcome, timedelta(hours=age)) for chat in chats],
    )
    await pool.execute(
        f"UPDATE broadcast_run SET {outcome} = {outcome} + $2, cursor = greatest(cursor, $3)"  # noqa: S608 - an outcome
        " WHERE broadcast_id = $1",
        broadcast_id,
        len(chats),
        max(chats),
    )


async def land(pool: Pool, broadcast_id: BroadcastId) -> None:
    """It is done, as its lane would say."""
    await pool.execute("UPDATE broadcast SET state = 'done', ended_at = now() WHERE id = $1", broadcast_id)
