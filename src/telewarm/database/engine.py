"""The engine's own tables, which PgQueuer makes and fills: their upkeep. It never trims its log."""

from __future__ import annotations

from collections.abc import Mapping

from telewarm.database.connection import Executor, Pool

KEPT = 600.0  # seconds that a line of the log stays, for people who look into it
BATCH = 5_000  # lines deleted in one statement
MOST = 20  # statements in one trim: a log that grew for years goes bit by bit

# Rows live for seconds and are written all the time: look for dead ones early, and do not rest while sweeping them up.
VACUUM = {
    "autovacuum_vacuum_scale_factor": "0.1",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_analyze_scale_factor": "0.2",
    "autovacuum_analyze_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
}
STORAGE: Mapping[str, Mapping[str, str]] = {
    "pgqueuer": VACUUM,
    "pgqueuer_log": VACUUM | {"autovacuum_vacuum_insert_scale_factor": "0.2"},
}

TRIM = (
    "WITH old AS (SELECT id FROM pgqueuer_log WHERE created < now() - make_interval(secs => $1)"
    " ORDER BY created LIMIT $2 FOR UPDATE SKIP LOCKED)"
    " DELETE FROM pgqueuer_log USING old WHERE pgqueuer_log.id = old.id"
)


async def trim_log(pool: Pool, *, kept: float = KEPT) -> int:
    """Delete what is older than `kept` seconds; how many lines. Costs a look into an index when there is nothing."""
    total = 0
    for _ in range(MOST):
        deleted = int((await pool.execute(TRIM, kept, BATCH)).removeprefix("DELETE "))
        total += deleted
        if deleted < BATCH:
            break
    return total


async def untuned(db: Executor) -> list[str]:
    """The engine's tables whose storage parameters are not ours."""
    rows = await db.fetch(
        "SELECT wanted.name, coalesce(reloptions, '{}') AS options FROM unnest($1::text[]) AS wanted (name)"
        " JOIN pg_class ON pg_class.oid = to_regclass(wanted.name)",
        list(STORAGE),
    )
    return [row["name"] for row in rows if not _options(STORAGE[row["name"]]) <= set(row["options"])]


async def tune(db: Executor) -> bool:
    """Set them. Whether there was something to do."""
    tables = await untuned(db)
    for table in tables:
        settings = ", ".join(f"{name} = {value}" for name, value in STORAGE[table].items())
        await db.execute(f"ALTER TABLE {table} SET ({settings})")
    return bool(tables)


def _options(settings: Mapping[str, str]) -> set[str]:
    return {f"{name}={value}" for name, value in settings.items()}
