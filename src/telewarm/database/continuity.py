"""Detection of a restored, older copy of the database, in which broadcasts must not continue by themselves.

The database stores the server and database that it was written in, and a number that increases while broadcasts are
sent or changed; the data folder stores the last number seen. A dump restored elsewhere differs in the first; one
restored in place, or a replica promoted too early, in the second. See docs/decisions/0019.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
import structlog

from telewarm import clock
from telewarm.database.connection import Connection, Pool
from telewarm.database.restored import mark_restored
from telewarm.database.transient import is_transient

log = structlog.get_logger(__name__)

STEP_INTERVAL_SECONDS = 1.0  # seconds between two steps while broadcasts are sent
FILE_NAME = "installations.json"
MAX_REMEMBERED_DATABASES = 50  # databases that one data folder remembers
SELECT_CLUSTER_ID = "SELECT system_identifier::text FROM pg_control_system()"
SELECT_TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
SELECT_DATABASE_OID = "SELECT oid::bigint FROM pg_database WHERE datname = current_database()"
SELECT_INSTALLATION = (
    "SELECT id, generation, generations, progress, cluster_id, database_oid, timeline FROM installation"
)
INCREMENT_PROGRESS = "UPDATE installation SET progress = progress + 1 RETURNING id, generation, progress"
# What a role may lack the right to ask, or a server that speaks Postgres does not know.
UNAVAILABLE_ERRORS = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFunctionError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.ObjectNotInPrerequisiteStateError,
)


Row: TypeAlias = Mapping[str, Any]


class LastSeen(msgspec.Struct, frozen=True):
    """What this installation last saw of a database."""

    generation: UUID
    progress: int


class ServerIdentity(msgspec.Struct, frozen=True):
    """Identity of server and database. None: not available."""

    cluster_id: str | None
    database_oid: int
    timeline: str | None

    def differs(self, row: Row) -> bool:
        """Return whether it differs from the stored one."""
        return any(
            mine is not None and row[name] is not None and mine != row[name]
            for name, mine in msgspec.structs.asdict(self).items()
        )


def is_older(row: Row, seen: LastSeen | None) -> bool:
    """Return whether the database has lost what this installation has seen in it. Pure."""
    if seen is None or seen.generation in row["generations"]:
        return False
    return bool(seen.generation != row["generation"] or seen.progress > row["progress"])


class RestoreDetector:
    """`is_sending`: returns whether this process is sending broadcasts."""

    def __init__(self, pool: Pool, folder: Path, *, is_sending: Callable[[], bool]) -> None:
        self._pool = pool
        self._file = folder / FILE_NAME
        self._is_sending = is_sending
        self._change_event = asyncio.Event()
        self._was_sending = False
        self._last_seen: LastSeen | None = None

    def notify_changed(self) -> None:
        """Note a change of a broadcast's state, which an older copy would not have."""
        self._change_event.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check the database first, before anything is sent. Raises on a lost database."""
        await self._check()
        task = asyncio.create_task(self._run(), name="continuity")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if self._change_event.is_set() or self._was_sending or self._is_sending():
                await self._advance()

    async def _run(self) -> None:
        while True:
            await clock.wait(self._change_event, STEP_INTERVAL_SECONDS)
            busy = self._is_sending()
            if self._change_event.is_set() or busy or self._was_sending:
                self._change_event.clear()
                self._was_sending = busy
                await self._advance()

    async def _advance(self) -> None:
        try:
            row = await self._pool.fetchrow(INCREMENT_PROGRESS)
            seen = self._last_seen
            if row is not None and seen is not None and seen.generation == row["generation"]:
                if seen.progress < row["progress"]:
                    self._save_last_seen(dict(row))
                    return
                await self._check(went_back=True)
            else:
                await self._check()
        except Exception as error:
            log.warning("continuity_step_failed", error=type(error).__name__, exc_info=not is_transient(error))

    async def _check(self, *, went_back: bool = False) -> None:
        """Pause active broadcasts in an older copy, and store its identity."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO installation DEFAULT VALUES ON CONFLICT DO NOTHING")
            row: Row = await _fetch_installation(connection, f"{SELECT_INSTALLATION} FOR UPDATE")
            identity = await _fetch_identity(connection)
            seen = self._last_seen or self._read().get(row["id"])
            if went_back or identity.differs(row) or is_older(row, seen):
                paused = await mark_restored(connection)
                log.warning("database_restored", paused=paused, moved=identity.differs(row))
            row = await _fetch_installation(
                connection,
                "UPDATE installation SET cluster_id = $1, database_oid = $2, timeline = $3"
                " RETURNING id, generation, progress",
                *msgspec.structs.astuple(identity),
            )
        self._save_last_seen(row)

    def _save_last_seen(self, row: Row) -> None:
        self._last_seen = LastSeen(generation=row["generation"], progress=row["progress"])
        try:
            kept = self._read()
            other = kept.get(row["id"])  # what another process on this folder saw
            if (
                other is None
                or other.generation != self._last_seen.generation
                or other.progress < self._last_seen.progress
            ):
                self._write(kept | {row["id"]: self._last_seen})
        except OSError as error:
            log.warning("continuity_not_kept", file=str(self._file), error=type(error).__name__)

    def _read(self) -> dict[UUID, LastSeen]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[UUID, LastSeen])
        except (OSError, msgspec.DecodeError):
            return {}

    def _write(self, seen: dict[UUID, LastSeen]) -> None:
        kept = dict(list(seen.items())[-MAX_REMEMBERED_DATABASES:])
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_bytes(msgspec.json.encode(kept))
        draft.replace(self._file)


async def _fetch_installation(connection: Connection, sql: str, *values: object) -> Row:
    """Return the one row of `installation`."""
    row = await connection.fetchrow(sql, *values)
    assert row is not None  # noqa: S101 - it was made just now
    return dict(row)


async def _fetch_identity(connection: Connection) -> ServerIdentity:
    return ServerIdentity(
        cluster_id=await _fetch_if_allowed(connection, SELECT_CLUSTER_ID),
        database_oid=int(await connection.fetchval(SELECT_DATABASE_OID)),
        timeline=await _fetch_if_allowed(connection, SELECT_TIMELINE),
    )


async def _fetch_if_allowed(connection: Connection, sql: str) -> str | None:
    """Return a value, or None where the role lacks the right."""
    try:
        async with connection.transaction():
            return str(await connection.fetchval(sql))
    except UNAVAILABLE_ERRORS:
        return None
    except asyncpg.PostgresError as error:
        if is_transient(error):
            raise
        log.info("server_not_identified", asked=sql, error=type(error).__name__)
        return None
