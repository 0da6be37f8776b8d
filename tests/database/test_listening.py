"""Listeners: all of a pool on one connection, which is replaced when it is lost."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from telewarm.database.connection import Pool
from telewarm.database.notifications import subscribe
from telewarm.database.pool import open_pool
from telewarm.errors import DatabaseUnavailable

LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


class Ears:
    """What a listener heard and how often it was told to forget."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.lost: asyncio.Queue[None] = asyncio.Queue()

    def forget(self) -> None:
        self.lost.put_nowait(None)


async def test_a_listener_hears_its_channels_and_no_others(pool: Pool) -> None:
    ears = Ears()
    async with subscribe(pool, {"mine": ears.heard.put_nowait}, on_lost=ears.forget):
        await pool.execute("NOTIFY other, 'no'")
        await pool.execute("NOTIFY mine, 'yes'")
        assert await asyncio.wait_for(ears.heard.get(), 5) == "yes"
    assert ears.heard.empty()
    assert ears.lost.empty()


async def test_each_channel_has_its_own_function(pool: Pool) -> None:
    first, second = Ears(), Ears()
    channels = {"first": first.heard.put_nowait, "second": second.heard.put_nowait}
    async with subscribe(pool, channels, on_lost=first.forget):
        await pool.execute("NOTIFY second, 'b'")
        await pool.execute("NOTIFY first, 'a'")
        assert await asyncio.wait_for(first.heard.get(), 5) == "a"
        assert await asyncio.wait_for(second.heard.get(), 5) == "b"


async def test_a_lost_listener_tells_its_owner_twice_and_listens_again(pool: Pool) -> None:
    ears = Ears()
    async with subscribe(pool, {"mine": ears.heard.put_nowait}, on_lost=ears.forget):
        await pool.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        await asyncio.wait_for(ears.lost.get(), 5)  # the connection is gone
        await asyncio.wait_for(ears.lost.get(), 5)  # the next one listens
        await pool.execute("NOTIFY mine, 'again'")
        assert await asyncio.wait_for(ears.heard.get(), 5) == "again"


async def test_a_listener_leaves_no_connection_and_no_task_behind(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=2, application_name="test")
    ears, before = Ears(), asyncio.all_tasks()
    async with subscribe(pool, {"mine": ears.heard.put_nowait}, on_lost=ears.forget):
        pass
    assert asyncio.all_tasks() == before
    async with pool.acquire(timeout=1), pool.acquire(timeout=1):
        pass
    await asyncio.wait_for(pool.close(), 5)


async def test_a_listener_without_a_database_says_so_at_once(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=2, application_name="test")
    await pool.close()
    ears = Ears()
    with pytest.raises(DatabaseUnavailable, match="Cannot listen"):
        async with subscribe(pool, {"mine": ears.heard.put_nowait}, on_lost=ears.forget):
            pass


async def test_many_who_listen_need_one_connection_and_come_and_go_as_they_like(pool: Pool) -> None:
    ears = [Ears() for _ in range(5)]
    async with AsyncExitStack() as stays:
        async with AsyncExitStack() as leaves:
            for number, one in enumerate(ears):
                channels = {"everybody": one.heard.put_nowait, f"own_{number}": one.heard.put_nowait}
                stack = leaves if number < 3 else stays
                await stack.enter_async_context(subscribe(pool, channels, on_lost=one.forget))
            assert await pool.fetchval(LISTENERS) == 1
        await pool.execute("NOTIFY own_3, 'mine'")
        await pool.execute("NOTIFY everybody, 'for all'")
        assert [await asyncio.wait_for(ears[3].heard.get(), 5) for _ in range(2)] == ["mine", "for all"]
        assert await asyncio.wait_for(ears[4].heard.get(), 5) == "for all"
        assert await pool.fetchval(LISTENERS) == 1
    assert [one.heard.empty() for one in ears] == [True] * 5


async def test_all_who_listen_are_told_of_a_loss_and_hear_again(pool: Pool) -> None:
    first, second = Ears(), Ears()
    async with (
        subscribe(pool, {"one": first.heard.put_nowait}, on_lost=first.forget),
        subscribe(pool, {"two": second.heard.put_nowait}, on_lost=second.forget),
    ):
        await pool.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        for ears in (first, first, second, second):
            await asyncio.wait_for(ears.lost.get(), 5)
        await pool.execute("NOTIFY one, 'a'")
        await pool.execute("NOTIFY two, 'b'")
        assert await asyncio.wait_for(first.heard.get(), 5) == "a"
        assert await asyncio.wait_for(second.heard.get(), 5) == "b"


async def test_many_may_begin_to_listen_at_once(pool: Pool) -> None:
    ears = [Ears() for _ in range(20)]

    async def listen(number: int) -> str:
        async with subscribe(pool, {"everybody": ears[number].heard.put_nowait}, on_lost=ears[number].forget):
            await pool.execute("NOTIFY everybody, 'hello'")
            return await asyncio.wait_for(ears[number].heard.get(), 5)

    assert await asyncio.gather(*map(listen, range(20))) == ["hello"] * 20


async def test_a_pool_that_is_closed_under_a_listener_does_not_keep_it(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=2, application_name="test")
    ears = Ears()
    async with subscribe(pool, {"mine": ears.heard.put_nowait}, on_lost=ears.forget):
        pool.terminate()
