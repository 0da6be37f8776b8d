"""Connections to PostgreSQL: the pool, and single ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from asyncpg.pool import PoolAcquireContext
from asyncpg.types import ServerVersion

from telewarm.database.connection import Pool
from telewarm.errors import DatabaseUnavailable

MIN_POSTGRES_VERSION = 14  # the first PostgreSQL that has all we use
CONNECT_TIMEOUT_SECONDS = 10.0
STATEMENT_TIMEOUT_SECONDS = 30.0
ACQUIRE_TIMEOUT_SECONDS = 15.0  # that somebody waits for a connection of a pool
HEARTBEAT_POOL_SIZE = 4  # of the pool that keeps the lease and the heartbeats, whatever else the process waits for
ROUND_TRIP_SECONDS = 5.0  # seconds that the client waits longer than the server may work
IDLE_TRANSACTION_TIMEOUT_SECONDS = 60.0  # an idle transaction holds locks: the server ends it

CONNECTION_CURE = "Check that PostgreSQL runs there, and DATABASE_URL"


async def open_pool(
    url: str, *, max_size: int, application_name: str, statement_timeout: float = STATEMENT_TIMEOUT_SECONDS
) -> Pool:
    """Open a pool, and reach the database once. `statement_timeout`: seconds, 0 for none.

    Raises DatabaseUnavailable with the remedy; the password is in no message.
    """
    options = _options(application_name, statement_timeout)
    async with _as_database_unavailable(url):
        pool: Pool = await _TimeoutPool(
            url,
            min_size=1,
            max_size=max_size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            connection_class=NoResetConnection,
            record_class=asyncpg.Record,
            connect=_connect_in_clean_context,
            setup=None,
            init=None,
            reset=None,
            loop=None,
            **options,
        )
    try:
        async with _as_database_unavailable(url), pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            _check_server_version(connection.get_server_version(), url)
    except BaseException:
        pool.terminate()
        raise
    return pool


async def _connect_in_clean_context(*target: Any, **options: Any) -> asyncpg.Connection[asyncpg.Record]:  # noqa: ANN401 - asyncpg's
    """Connect in an empty context: callbacks run in it, and it must not be that of a request."""
    connecting: Coroutine[Any, Any, asyncpg.Connection[asyncpg.Record]] = asyncpg.connect(*target, **options)
    task = asyncio.create_task(connecting, name="connect", context=Context())
    try:
        return await task
    except asyncio.CancelledError:  # it may be connected by now, and nobody else would close it
        if task.done() and not task.cancelled() and task.exception() is None:
            task.result().terminate()
        raise


async def connect(
    url: str, *, application_name: str, statement_timeout: float = STATEMENT_TIMEOUT_SECONDS
) -> asyncpg.Connection[asyncpg.Record]:
    """Open a single connection outside of any pool. Raises DatabaseUnavailable as `open_pool` does."""
    async with _as_database_unavailable(url):
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            url, **_options(application_name, statement_timeout)
        )
    try:
        _check_server_version(connection.get_server_version(), url)
    except BaseException:
        connection.terminate()
        raise
    return connection


class _TimeoutPool(asyncpg.Pool):
    """Pool with a timeout for connections: raises TimeoutError, which counts as an outage."""

    __slots__ = ()

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext[asyncpg.Record]:
        """Acquire a connection."""
        if timeout is None and self.get_idle_size() == 0:
            timeout = ACQUIRE_TIMEOUT_SECONDS
        return super().acquire(timeout=timeout)


class NoResetConnection(asyncpg.Connection):
    """Connection that is not reset on release, which saves a round trip for each query.

    No state of ours outlives its transaction, except LISTEN: a connection that listened is reset.
    """

    _listened = False

    async def add_listener(self, channel: str, callback: Any) -> None:  # noqa: ANN401 - asyncpg's own
        """Add a listener."""
        self._listened = True
        await super().add_listener(channel, callback)

    def get_reset_query(self) -> str:
        """Return the reset query, empty unless the connection listened."""
        if not self._listened:
            return ""
        self._listened = False
        return super().get_reset_query()


def _options(application_name: str, statement_timeout: float) -> dict[str, Any]:
    return {
        "timeout": CONNECT_TIMEOUT_SECONDS,
        "command_timeout": statement_timeout + ROUND_TRIP_SECONDS if statement_timeout else None,
        "server_settings": {
            "application_name": application_name,
            "timezone": "UTC",
            "synchronous_commit": "on",  # whatever the role's default: who is called is written down before the call
            "jit": "off",  # our queries are short: compiling them costs more than it saves
            "random_page_cost": "1.1",  # what we look up is in memory or on an SSD: an index beats reading the table
            "statement_timeout": f"{statement_timeout * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_TIMEOUT_SECONDS * 1000:.0f}",
        },
    }


def describe_url(url: str) -> str:
    """Return host, port and database of a database URL, and nothing else of it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "the address in DATABASE_URL"
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or not parts.hostname:
        return "the address in DATABASE_URL"  # perhaps a piece of a password that was not percent-encoded
    return f"{parts.hostname}:{port or 5432}{parts.path}"


def _check_server_version(version: ServerVersion, url: str) -> None:
    if version.major < MIN_POSTGRES_VERSION:
        raise DatabaseUnavailable(
            f"PostgreSQL {version.major} at {describe_url(url)} is too old: Telewarm needs "
            f"{MIN_POSTGRES_VERSION} or newer"
        )


@asynccontextmanager
async def _as_database_unavailable(url: str) -> AsyncIterator[None]:
    """Convert the errors of a first connection to DatabaseUnavailable with the remedy."""
    at = describe_url(url)
    try:
        yield
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        cure = "check the user and the password in DATABASE_URL"
        raise DatabaseUnavailable(f"PostgreSQL at {at} refused the login: {cure}") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise DatabaseUnavailable(f"There is no such database at {at}: create it with createdb") from error
    except asyncpg.TooManyConnectionsError as error:
        cure = "lower TELEWARM_DATABASE_POOL or raise the server's max_connections"
        raise DatabaseUnavailable(f"PostgreSQL at {at} takes no more connections: {cure}") from error
    except asyncpg.ProtocolViolationError as error:
        cure = "connect to PostgreSQL itself and not through PgBouncer, for NOTIFY needs a session"
        raise DatabaseUnavailable(f"PostgreSQL at {at} refused our session settings: {cure}") from error
    except asyncpg.UndefinedObjectError as error:  # a parameter of the URL that is none of this server's
        cure = "leave that parameter out of DATABASE_URL"
        raise DatabaseUnavailable(f"PostgreSQL at {at} refused the connection: {error}; {cure}") from error
    except asyncpg.PostgresError as error:
        raise DatabaseUnavailable(f"PostgreSQL at {at} refused the connection: {error}. {CONNECTION_CURE}") from error
    except (ValueError, asyncpg.InterfaceError):
        # What it says may quote the URL, and with it the password.
        raise DatabaseUnavailable(
            "DATABASE_URL cannot be understood: write postgresql://user:password@host:5432/database, "
            "with special characters of the password percent-encoded"
        ) from None
    except TimeoutError as error:
        raise DatabaseUnavailable(
            f"PostgreSQL at {at} did not answer within {CONNECT_TIMEOUT_SECONDS:.0f} s. {CONNECTION_CURE}"
        ) from error
    except OSError as error:
        raise DatabaseUnavailable(
            f"PostgreSQL at {at} cannot be reached ({error.strerror or error}). {CONNECTION_CURE}"
        ) from error
