"""Check of the database role's rights before they are needed: one sentence with the GRANT."""

from __future__ import annotations

import asyncpg

from telewarm.database.connection import Executor, created_names
from telewarm.errors import DatabaseForbidden, DatabaseUnavailable

REQUIRED_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")

SELECT_MISSING_PRIVILEGES = """
    SELECT class.relname AS name, privilege
    FROM pg_class AS class
    CROSS JOIN unnest($2::text[]) AS privilege
    WHERE class.relnamespace = current_schema()::regnamespace AND class.relkind = 'r'
      AND (class.relname = ANY ($1) OR class.relname LIKE 'pgqueuer%')
      AND NOT has_table_privilege(class.oid, privilege)
    UNION ALL
    SELECT 'alembic_version', 'SELECT'
    WHERE NOT has_table_privilege(to_regclass('alembic_version'), 'SELECT')
    UNION ALL
    SELECT class.relname, 'USAGE'
    FROM pg_class AS class
    WHERE class.relnamespace = current_schema()::regnamespace AND class.relname LIKE 'pgqueuer%'
      AND CASE WHEN class.relkind = 'S' THEN NOT has_sequence_privilege(class.oid, 'USAGE') END
"""
SELECT_HIDDEN_SCHEMA = """
    SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'alembic_version' AND relkind = 'r' AND NOT has_schema_privilege(relnamespace, 'USAGE')
"""


async def check_rights(db: Executor, description: str) -> None:
    """Check the rights. Raises DatabaseForbidden without access to a table, DatabaseUnavailable for a read-only server.

    `description`: of the database, for people.
    """
    if await db.fetchval("SELECT current_setting('transaction_read_only')") == "on":
        raise DatabaseUnavailable(
            f"PostgreSQL at {description} is read-only, as a standby or by its settings: point DATABASE_URL at "
            f"the primary"
        )
    role = await db.fetchval("SELECT current_user")
    if (schema := await db.fetchval(SELECT_HIDDEN_SCHEMA)) is not None and await db.fetchval(
        "SELECT to_regclass('media')"
    ) is None:
        raise DatabaseForbidden(
            f"The role {role} may not use the schema {schema} at {description}: GRANT USAGE ON SCHEMA {schema} "
            f'TO "{role}";'
        )
    if await db.fetchval("SELECT current_schema()") is None:
        return
    missing = await db.fetch(SELECT_MISSING_PRIVILEGES, list(created_names("TABLE")), list(REQUIRED_PRIVILEGES))
    if missing:
        first = missing[0]
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DatabaseForbidden(
            f"The role {role} may not {first['privilege']} {first['name']} at {description}{more}: {grant_cure(role)}"
        )


def grant_cure(role: str) -> str:
    """Return the statements for the owner of the tables."""
    return (
        f"as the owner of the tables run GRANT {', '.join(REQUIRED_PRIVILEGES)} ON ALL TABLES IN SCHEMA public "
        f'TO "{role}"; '
        f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "{role}";'
    )


async def migration_forbidden_message(db: Executor, error: asyncpg.InsufficientPrivilegeError) -> str:
    """Return the message for a migration without the rights."""
    role = await db.fetchval("SELECT current_user")
    return (
        f"The role {role} may not migrate this database ({error}): run `telewarm migrate` as the owner of its tables, "
        f'or GRANT CREATE, USAGE ON SCHEMA public TO "{role}";'
    )
