"""Copies of whole tables as COPY text, which every version of PostgreSQL reads."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg

from telewarm.database.connection import created_names
from telewarm.database.migrate import newest_revision, refuse_newer, revision, upgrade_script
from telewarm.database.pool import ROUND_TRIP_SECONDS, connect
from telewarm.database.rights import grant_cure
from telewarm.errors import BackupError, DatabaseError, DatabaseForbidden

SKIPPED_TABLES = frozenset({"lease"})  # who runs now
SESSION_SETTINGS = (
    "SET idle_in_transaction_session_timeout = 0",
    "SET datestyle = 'ISO, MDY'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 1",
)

# Where a store keeps an object follows from its hash: any other key would be one that leads elsewhere.
SELECT_FOREIGN_KEY = r"""
    SELECT key FROM (
        SELECT sha256, storage_key AS key, 'media' AS place FROM blob
        UNION ALL SELECT sha256, thumbnail_key, 'thumbnails' FROM blob
        UNION ALL SELECT sha256, storage_key, 'media|thumbnails' FROM blob_tombstone
        UNION ALL SELECT sha256, thumbnail_key, 'thumbnails' FROM blob_tombstone
    ) AS named
    WHERE sha256 !~ '^[0-9a-f]{64}$'
       OR key !~ ('^(' || place || ')/' || left(sha256, 2) || '/' || sha256 || '\.[a-z0-9]{1,16}$')
    LIMIT 1
"""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@asynccontextmanager
async def connect_without_timeouts(url: str, application_name: str) -> AsyncIterator[Connection]:
    """Connect without timeouts. Raises DatabaseForbidden for what the role may not do."""
    connection = await connect(url, application_name=application_name, statement_timeout=0)
    try:
        for setting in SESSION_SETTINGS:
            await connection.execute(setting)
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        role = await connection.fetchval("SELECT current_user")
        raise DatabaseForbidden(
            f"The role {role} may not do this ({error}): use the role that owns the tables, or, to back them up, "
            f"{grant_cure(role)}"
        ) from error
    finally:
        await connection.close(timeout=ROUND_TRIP_SECONDS)


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Connection]:
    """Connect for reading a single snapshot, however long it takes."""
    async with (
        connect_without_timeouts(url, "telewarm backup") as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def revision_to_save(connection: Connection) -> str:
    """Return the revision that a backup records."""
    found = await revision(connection)
    if found is None:
        raise BackupError("There is nothing to back up: the database has no tables of Telewarm's")
    refuse_newer(found)
    return found


async def columns(connection: Connection) -> dict[str, list[str]]:
    """Return the columns of our existing tables, in the order in which they can be filled."""
    rows = await connection.fetch(
        "SELECT relname AS name, array_agg(attname::text ORDER BY attnum) AS columns"
        " FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
        " WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname = ANY ($1)"
        " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' GROUP BY relname",
        list(created_names("TABLE")),
    )
    found = {row["name"]: list(row["columns"]) for row in rows}
    return {name: found[name] for name in created_names("TABLE") if name in found and name not in SKIPPED_TABLES}


async def last_identities(connection: Connection) -> dict[str, int]:
    """Return the last id of each identity column."""
    rows = await connection.fetch(
        "SELECT relname AS name, attname AS column, pg_get_serial_sequence(quote_ident(relname), attname) AS sequence"
        " FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
        " WHERE relnamespace = current_schema()::regnamespace AND relname = ANY ($1) AND attidentity <> ''",
        list(created_names("TABLE")),
    )
    last = {}
    for row in rows:
        value = await connection.fetchval(  # a role that may use a sequence need not have the right to read it
            "SELECT coalesce((SELECT last_value FROM pg_sequences"
            " WHERE quote_ident(schemaname) || '.' || quote_ident(sequencename) = $1),"
            f" (SELECT max({_quoted(row['column'])}) FROM {_quoted(row['name'])}), 0)",
            row["sequence"],
        )
        last[f"{row['name']}.{row['column']}"] = int(value)
    return last


async def copy_out(
    connection: Connection, table: str, column_names: list[str], write: Callable[[bytes], Coroutine[Any, Any, None]]
) -> None:
    """Copy a table out."""
    query = f"SELECT {_quoted_list(column_names)} FROM {_quoted(table)}"
    await connection.copy_from_query(query, output=write)


async def copy_in(connection: Connection, table: str, column_names: list[str], rows: AsyncIterator[bytes]) -> None:
    """Copy a table in."""
    await connection.copy_to_table(table, columns=column_names, source=rows)


def check_table_names(tables: Iterable[str], identity_columns: Iterable[str]) -> None:
    """Check that an archive names our tables only: it could name others of the server.

    `identity_columns`: as table.column.
    """
    for name in (*tables, *(key.partition(".")[0] for key in identity_columns)):
        if name not in created_names("TABLE") or name in SKIPPED_TABLES:
            raise BackupError(f"the archive names {name[:60]!r}, which is no table of Telewarm's")


async def find_foreign_key(connection: Connection) -> str | None:
    """Return an object key that Telewarm would not create, if there is one."""
    found: str | None = await connection.fetchval(SELECT_FOREIGN_KEY)
    return found


async def has_data(connection: Connection) -> bool:
    """Return whether the database has data that somebody might need."""
    if await revision(connection) is None:
        return False
    for table in ("bot", "media", "broadcast", "api_token"):
        if await connection.fetchval(f"SELECT to_regclass('{table}')") is not None and await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {table})"
        ):
            return True
    return False


async def active_processes(connection: Connection) -> list[str]:
    """Return the processes that use the database: host and process."""
    if await connection.fetchval("SELECT to_regclass('lease')") is None:
        return []
    rows = await connection.fetch("SELECT holder FROM lease WHERE expires_at > now() ORDER BY holder")
    return [row["holder"] for row in rows]


async def reset_tables(connection: Connection, target_revision: str) -> None:
    """Empty our tables, at a revision. Grants stay if that is the present one."""
    if await revision(connection) == target_revision:
        await connection.execute(f"TRUNCATE {_quoted_list([*await columns(connection), *SKIPPED_TABLES])}")
    else:
        await connection.execute(
            f"DROP TABLE IF EXISTS {_quoted_list([*created_names('TABLE'), 'alembic_version'])} CASCADE"
        )
        for function in created_names("FUNCTION"):
            await connection.execute(f"DROP FUNCTION IF EXISTS {_quoted(function)} CASCADE")
        await connection.execute(_without_transaction(upgrade_script(None, target_revision)))
    if await connection.fetchval("SELECT to_regclass('pgqueuer')") is not None:
        await connection.execute("DELETE FROM pgqueuer")  # jobs of the bots that were: what is due is found again


async def set_triggers_enabled(connection: Connection, *, enabled: bool) -> None:
    """Enable or disable triggers, whose effects are part of an archive."""
    for table in await columns(connection):
        await connection.execute(f"ALTER TABLE {_quoted(table)} {'ENABLE' if enabled else 'DISABLE'} TRIGGER USER")


async def restart_identities(connection: Connection, last: dict[str, int]) -> None:
    """Continue ids after the last ones, so that the id of a deleted row is never reused."""
    for key, value in last.items():
        table, _, column = key.partition(".")
        await connection.execute(
            f"ALTER TABLE {_quoted(table)} ALTER COLUMN {_quoted(column)} RESTART WITH {int(value) + 1}"
        )


async def upgrade(connection: Connection, current: str) -> None:
    """Upgrade from the archive's revision to this version's, in the caller's transaction."""
    if current != newest_revision():
        await connection.execute(_without_transaction(upgrade_script(current)))


async def clear_server_identity(connection: Connection) -> None:
    """Clear the server's identity: the installation continues on another server."""
    await connection.execute("UPDATE installation SET cluster_id = NULL, database_oid = NULL, timeline = NULL")


def _without_transaction(script: str) -> str:
    """Remove a script's own transaction."""
    return script.strip().removeprefix("BEGIN;").removesuffix("COMMIT;")


def _quoted_list(names: list[str]) -> str:
    return ", ".join(map(_quoted, names))


def _quoted(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        raise BackupError(f"the archive names {name!r}, which is no table or column of Telewarm's")
    return f'"{name}"'


async def object_keys(connection: Connection) -> AsyncIterator[tuple[str, str, str | None]]:
    """Yield each blob's hash, storage key and thumbnail key, in the order of their hashes. Needs a transaction."""
    async for row in connection.cursor("SELECT sha256, storage_key, thumbnail_key FROM blob ORDER BY sha256"):
        yield row["sha256"], row["storage_key"], row["thumbnail_key"]


@contextmanager
def refusals_as_errors() -> Iterator[None]:
    """Turn what the database refuses into DatabaseError."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"The database refused the backup, and is as it was: {error}") from error
