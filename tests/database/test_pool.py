"""Connections: set up the same everywhere, and explained when refused."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars

from telewarm import clock
from telewarm.database.pool import connect, describe_url, open_pool
from telewarm.errors import DatabaseUnavailable
from telewarm.logs import request_id

PASSWORD = "correct-horse-battery"


async def refused(url: str) -> DatabaseUnavailable:
    """The error of a pool that cannot be opened, checked for the password."""
    with pytest.raises(DatabaseUnavailable) as caught:
        await open_pool(url, max_size=2, application_name="test")
    reported = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in reported
    assert PASSWORD[:7] not in str(caught.value)
    return caught.value


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield int(listener.getsockname()[1])


async def test_every_connection_speaks_utc_without_jit_under_its_name_and_time_limit(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=2, application_name="a name", statement_timeout=7)
    expected = {"timezone": "UTC", "jit": "off", "application_name": "a name", "statement_timeout": "7s"}
    assert {name: await pool.fetchval(f"SHOW {name}") for name in expected} == expected
    await pool.close()


async def test_whoever_is_cancelled_just_when_a_connection_is_there_leaves_none(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=2, application_name="test")
    held = await pool.acquire()
    asking = asyncio.create_task(pool.fetchval("SELECT 1"))
    while not (connecting := [one for one in asyncio.all_tasks() if one.get_name() == "connect"]):
        await clock.sleep(0)
    while not connecting[0].done():
        await clock.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert connecting[0].result().is_closed()
    await pool.release(held)
    await pool.close()


async def test_a_query_that_takes_too_long_is_ended_by_the_server(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=2, application_name="test", statement_timeout=0.05)
    with pytest.raises(asyncpg.QueryCanceledError):
        await pool.execute("SELECT pg_sleep(10)")
    await pool.close()


async def test_a_pool_never_has_more_connections_than_asked(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=2, application_name="at most two")
    await asyncio.gather(*(pool.execute("SELECT pg_sleep(0.01)") for _ in range(10)))
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'at most two'"
    assert await pool.fetchval(count) == 2
    await pool.close()


async def test_a_connection_that_listened_hears_nothing_once_it_is_back_and_others_go_back_as_they_are(
    database_url: str,
) -> None:
    pool = await open_pool(database_url, max_size=1, application_name="test")
    async with pool.acquire() as connection:
        await connection.execute("SET statement_timeout = '3s'")  # nothing of ours does: it shows what is undone
    assert await pool.fetchval("SHOW statement_timeout") == "3s"
    with pytest.warns(asyncpg.InterfaceWarning, match="active notification listener"):
        async with pool.acquire() as connection:
            await connection.add_listener("news", lambda *_: pytest.fail("it still listens"))
    assert await pool.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0
    assert await pool.fetchval("SHOW statement_timeout") == "30s"
    await pool.close()


@pytest.mark.server
async def test_a_closed_port_is_named_with_the_cure(closed_port: int) -> None:
    error = await refused(f"postgresql://user:{PASSWORD}@127.0.0.1:{closed_port}/media")
    assert f"127.0.0.1:{closed_port}/media cannot be reached" in str(error)
    assert "Check that PostgreSQL runs there, and DATABASE_URL" in str(error)


async def test_an_unknown_host_is_named() -> None:
    assert "nowhere.invalid:5432/media cannot be reached" in str(
        await refused(f"postgresql://user:{PASSWORD}@nowhere.invalid/media")
    )


async def test_a_missing_database_is_to_be_created(postgres_server: str) -> None:
    missing = urlsplit(postgres_server)._replace(path="/missing").geturl()
    assert "create it with createdb" in str(await refused(missing))


async def test_a_refused_login_points_at_user_and_password(postgres_server: str) -> None:
    stranger = urlsplit(postgres_server)._replace(netloc=f"stranger:{PASSWORD}@").geturl()
    assert "check the user and the password" in str(await refused(stranger))


async def test_a_setting_that_the_server_does_not_know_is_named(database_url: str) -> None:
    assert "connection_limit" in str(await refused(f"{database_url}&connection_limit=5"))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{PASSWORD}#1@db/media",
        f"postgresql://user:{PASSWORD}/1@db/media",
        f"mysql://user:{PASSWORD}@db/media",
        f"postgresql://user:{PASSWORD}@db:port/media",
        f"postgresql://[user:{PASSWORD}@db/media",
    ],
)
async def test_an_address_that_cannot_be_understood_is_not_repeated(url: str) -> None:
    assert "DATABASE_URL" in str(await refused(url))


@given(st.text(), st.text(min_size=8))
def test_where_never_shows_a_password(user: str, password: str) -> None:
    shown = describe_url(f"postgresql://{user}:{password}@db.example.org/media")
    assert shown in {"db.example.org:5432/media", "the address in DATABASE_URL"} or password not in shown


@pytest.mark.server
async def test_a_single_connection_is_explained_too(closed_port: int) -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        await connect(f"postgresql://127.0.0.1:{closed_port}/media", application_name="test")


async def test_what_a_connection_hears_is_not_the_request_that_opened_it(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=2, application_name="test")
    heard: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def hear(*_: object) -> None:
        heard.set_result(request_id())

    with bound_contextvars(request_id="4711"):
        async with pool.acquire(), pool.acquire() as opened:  # the second is opened here
            await opened.add_listener("test", hear)
            await opened.execute("NOTIFY test")
            assert await heard is None
            await opened.remove_listener("test", hear)
    await pool.close()
