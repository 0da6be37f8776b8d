"""Which errors mean that the database is away."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest

from telewarm.database.connection import Pool
from telewarm.database.transient import as_unavailable_error, is_transient

OUTAGES: list[tuple[Callable[[], Exception], str | None]] = [
    (lambda: ConnectionRefusedError(111, "refused"), "DATABASE_UNAVAILABLE"),
    (lambda: OSError("Multiple exceptions"), "DATABASE_UNAVAILABLE"),
    (TimeoutError, "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.InterfaceError("pool is closing"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.ConnectionDoesNotExistError("so"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.AdminShutdownError("so"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.CannotConnectNowError("so"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.QueryCanceledError("so"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.DiskFullError("so"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.TooManyConnectionsError("so"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.InvalidPasswordError("so"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.DeadlockDetectedError("so"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.InternalClientError("cannot switch to state 11"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.InvalidCachedStatementError("cached plan must not change"), "DATABASE_UNAVAILABLE"),
    (lambda: asyncpg.PostgresIOError("could not read block"), "DATABASE_UNAVAILABLE"),
    (lambda: ExceptionGroup("so", [ConnectionResetError(), TimeoutError()]), "DATABASE_UNAVAILABLE"),
    (lambda: OSError(28, "No space left on device", "/spool/x"), "STORE_UNAVAILABLE"),
    (lambda: OSError(28, "No space left on device"), "STORE_UNAVAILABLE"),
    (lambda: PermissionError(13, "Permission denied", "/spool/x"), "STORE_UNAVAILABLE"),
    (lambda: ExceptionGroup("so", [ConnectionResetError(), KeyError("so")]), None),
    (lambda: asyncpg.UndefinedColumnError("so"), None),
    (lambda: asyncpg.DataError("invalid input for query argument $1"), None),
    (lambda: asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed"), None),
    (lambda: asyncpg.CharacterNotInRepertoireError("so"), None),
    (lambda: asyncpg.UniqueViolationError("so"), None),
    (lambda: asyncpg.InsufficientPrivilegeError("so"), "DATABASE_FORBIDDEN"),
    (lambda: ValueError("so"), None),
]


@pytest.mark.parametrize(("make", "code"), OUTAGES)
def test_an_outage_is_told_from_a_bug(make: Callable[[], Exception], code: str | None) -> None:
    found = as_unavailable_error(make())
    assert (found and found.code) == code


MISTAKES = [
    ("SELECT no_such_column FROM media", ()),
    ("SELECT * FROM no_such_table", ()),
    ("SELECT 1 / 0", ()),
    ("SELEC 1", ()),
    ("SELECT $1::int", ("text",)),
    ("SELECT $1::int", ()),
    ("SELECT $1::int", (1, 2)),
    ("SELECT $1::text", ("a\0b",)),
    ("SELECT $1::text", ("\ud800",)),
    ("SELECT $1::bigint", (1 << 70,)),
]


@pytest.mark.parametrize(("sql", "arguments"), MISTAKES)
async def test_a_mistake_of_ours_is_no_outage(pool: Pool, sql: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of many classes
        await pool.fetch(sql, *arguments)
    assert not is_transient(caught.value)


async def test_a_statement_that_takes_too_long_and_a_pool_that_closed_are_outages(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 1")
        with pytest.raises(asyncpg.PostgresError) as late:
            await connection.execute("SELECT pg_sleep(5)")
    assert is_transient(late.value)
    await pool.close()
    with pytest.raises(asyncpg.InterfaceError) as closed:
        await pool.fetch("SELECT 1")
    assert is_transient(closed.value)
