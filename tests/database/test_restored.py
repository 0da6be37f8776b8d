"""A restored database: nothing that was being sent goes on by itself."""

from __future__ import annotations

from telewarm.database import broadcasts
from telewarm.database.connection import Pool
from telewarm.database.restored import mark_restored
from telewarm.models import BotId, BroadcastId, MessageSet
from tests.fixtures.rows import make_bot

TEXT = MessageSet(text="hello")


async def in_state(pool: Pool, bot_id: BotId, state: str) -> BroadcastId:
    made = await broadcasts.insert(pool, bot_id=bot_id, message=TEXT)
    await pool.execute("UPDATE broadcast SET state = $2 WHERE id = $1", made.id, state)
    return made.id


async def test_a_database_marked_as_restored_pauses_what_was_sent_or_scheduled_and_nothing_else(pool: Pool) -> None:
    bot_id = (await make_bot(pool)).id
    made = {state: await in_state(pool, bot_id, state) for state in ("draft", "scheduled", "running", "done")}

    async with pool.acquire() as connection, connection.transaction():
        assert await mark_restored(connection) == 2

    rows = {row["id"]: row for row in await pool.fetch("SELECT id, state, reason FROM broadcast")}
    assert [rows[one]["state"] for one in made.values()] == ["draft", "paused", "paused", "done"]
    assert f"telewarm broadcast resume {made['running']}" in rows[made["running"]]["reason"]


async def test_it_can_be_marked_twice(pool: Pool) -> None:
    async with pool.acquire() as connection:
        assert [await mark_restored(connection) for _ in range(2)] == [0, 0]
    assert await pool.fetchval("SELECT cardinality(generations) FROM installation") == 1
