"""Maintenance of the tables that PgQueuer creates and fills; it never trims its log.

The only user of PgQueuer below its public root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg
from pgqueuer import AsyncpgPoolDriver, Queries
from pgqueuer.errors import FailingListenerError
from pgqueuer.types import QueueEntrypoint

from telewarm.database.connection import Connection, Executor, Pool

LOG_RETENTION_SECONDS = 600.0  # seconds that a line of the log stays, for people who look into it
ROWS_PER_DELETE = 5_000  # lines deleted in one statement
MAX_DELETES_PER_TRIM = 20  # statements in one trim: a log that grew for years goes bit by bit

# Rows live for seconds and are written all the time: look for dead ones early, and do not rest while sweeping them up.
AUTOVACUUM_SETTINGS = {
    "autovacuum_vacuum_scale_factor": "0.1",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_analyze_scale_factor": "0.2",
    "autovacuum_analyze_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
}
STORAGE_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "pgqueuer": AUTOVACUUM_SETTINGS,
    "pgqueuer_log": AUTOVACUUM_SETTINGS | {"autovacuum_vacuum_insert_scale_factor": "0.2"},
}

TRIM_SQL = (
    "WITH old AS (SELECT id FROM pgqueuer_log WHERE created < now() - make_interval(secs => $1)"
    " ORDER BY created LIMIT $2 FOR UPDATE SKIP LOCKED)"
    " DELETE FROM pgqueuer_log USING old WHERE pgqueuer_log.id = old.id"
)

# An index keeps the pages of rows that are gone. One that could be much smaller is written again, which takes
# milliseconds while it is small: it waits for its lock no longer than this, since others wait behind it.
MIN_BLOATED_INDEX_BYTES = 32 << 10  # bytes that any index may have: the least one has two pages
MAX_BLOAT_FACTOR = 1.7  # times what its entries need, of which a fresh one has 1.1
REINDEX_LOCK_TIMEOUT = "50ms"

SELECT_BLOATED_INDEXES = """
    SELECT index.oid::regclass::text AS name
    FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid
    CROSS JOIN LATERAL (
        SELECT 16 + coalesce(sum(coalesce(nullif(attlen, -1), avg_width, 64)), 0) AS bytes
        FROM pg_attribute AS key
        JOIN pg_class AS owner ON owner.oid = attrelid
        LEFT JOIN pg_stats ON schemaname = owner.relnamespace::regnamespace::text
            AND tablename = owner.relname AND pg_stats.attname = key.attname
        WHERE attrelid = indrelid AND attnum = ANY (indkey)
    ) AS entry
    WHERE indrelid = to_regclass($1) AND pg_relation_size(index.oid) > $2 + $3::float8 * $4::bigint * entry.bytes
    ORDER BY index.oid
"""
SELECT_ESTIMATED_ROWS = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass($1)"


# PgQueuer leaves the time of a queued job as it is when the job is enqueued again, and its trigger, which runs once a
# statement, tells the workers of no UPDATE.
RUN_QUEUED_NOW = """
    WITH hurried AS (
        UPDATE pgqueuer SET execute_after = now(), updated = now()
        WHERE dedupe_key = ANY ($1::text[]) AND status = 'queued' AND execute_after > now()
        RETURNING id
    )
    SELECT pg_notify('ch_pgqueuer', json_build_object(
        'channel', 'ch_pgqueuer', 'operation', 'update', 'sent_at', now(), 'table', 'pgqueuer',
        'type', 'table_changed_event'
    )::text)
    WHERE EXISTS (SELECT FROM hurried)
"""
SELECT_RUNNING = "SELECT dedupe_key FROM pgqueuer WHERE dedupe_key = ANY ($1::text[]) AND status = 'picked'"


async def run_queued_now(db: Executor, keys: Sequence[str]) -> None:
    """Bring queued jobs forward to now."""
    await db.execute(RUN_QUEUED_NOW, keys)


async def running_keys(db: Executor, keys: Sequence[str]) -> set[str]:
    """Return those jobs that a worker is running."""
    return {row["dedupe_key"] for row in await db.fetch(SELECT_RUNNING, keys)}


async def has_eligible_jobs(pool: Pool, entrypoint: str) -> bool:
    """Return whether jobs are queued that could run now."""
    return await Queries(AsyncpgPoolDriver(pool)).eligible_queued_work([QueueEntrypoint(entrypoint)]) > 0


def is_lost_listener(error: Exception) -> bool:
    """Return whether PgQueuer ended because its LISTEN failed: then it has to be restarted."""
    return isinstance(error, FailingListenerError)


async def trim_log(pool: Pool, *, max_age_seconds: float = LOG_RETENTION_SECONDS) -> int:
    """Delete log rows older than `max_age_seconds`. Returns their number.

    Reads one index entry when there is nothing to do.
    """
    total = 0
    for _ in range(MAX_DELETES_PER_TRIM):
        deleted = int((await pool.execute(TRIM_SQL, max_age_seconds, ROWS_PER_DELETE)).removeprefix("DELETE "))
        total += deleted
        if deleted < ROWS_PER_DELETE:
            break
    return total


async def reindex_bloated(pool: Pool) -> list[str]:
    """Rebuild bloated indexes, at most one for each table. Returns their names. A table in use is skipped."""
    written = []
    async with pool.acquire() as connection:
        for table in STORAGE_PARAMETERS:
            index = await _find_bloated_index(connection, table)
            if index is not None and await _reindex(connection, index):
                written.append(index)
    return written


async def _find_bloated_index(db: Executor, table: str) -> str | None:
    """Return a bloated index. Counts rows only when the server's estimate makes an index look too large."""
    for rows in (SELECT_ESTIMATED_ROWS, f"SELECT count(*) FROM {table} WHERE to_regclass($1) IS NOT NULL"):
        counted = await db.fetchval(rows, table)
        grown = await db.fetch(SELECT_BLOATED_INDEXES, table, MIN_BLOATED_INDEX_BYTES, MAX_BLOAT_FACTOR, counted)
        if not grown:
            return None
    return str(grown[0]["name"])


async def _reindex(connection: Connection, index: str) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{REINDEX_LOCK_TIMEOUT}'")
            await connection.execute(f"REINDEX INDEX {index}")
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        return False
    return True


async def untuned_tables(db: Executor) -> list[str]:
    """Return the engine's tables without our storage parameters."""
    rows = await db.fetch(
        "SELECT wanted.name, coalesce(reloptions, '{}') AS options FROM unnest($1::text[]) AS wanted (name)"
        " JOIN pg_class ON pg_class.oid = to_regclass(wanted.name)",
        list(STORAGE_PARAMETERS),
    )
    return [row["name"] for row in rows if not _options(STORAGE_PARAMETERS[row["name"]]) <= set(row["options"])]


async def set_storage_parameters(db: Executor) -> bool:
    """Set the storage parameters. Returns whether there was something to do."""
    tables = await untuned_tables(db)
    for table in tables:
        settings = ", ".join(f"{name} = {value}" for name, value in STORAGE_PARAMETERS[table].items())
        await db.execute(f"ALTER TABLE {table} SET ({settings})")
    return bool(tables)


def _options(settings: Mapping[str, str]) -> set[str]:
    return {f"{name}={value}" for name, value in settings.items()}
