"""Classifier of database errors: transient ones, as opposed to bugs and bad values."""

from __future__ import annotations

import errno

import asyncpg

from telewarm.errors import DatabaseForbidden, DatabaseUnavailable, StoreUnavailable, TelewarmError

# Postgres is going away, coming back, or out of something; or the driver lost a connection in its hands. Every other
# error of Postgres is a bug or a value that cannot be stored: SQLSTATE classes 22, 23 and 42 above all.
TRANSIENT_ERRORS = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidCachedStatementError,  # the schema changed under a prepared statement: the next try prepares again
    asyncpg.InternalClientError,
    TimeoutError,
    DatabaseUnavailable,
)
BAD_ARGUMENTS_PREFIX = "the server expects"  # how the driver begins when a query and its arguments differ in number
DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})


def is_transient(error: BaseException) -> bool:
    """Return whether the database is unavailable, so that the same statement may succeed later."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_transient, error.exceptions))
    if isinstance(error, TRANSIENT_ERRORS):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError) and not str(error).startswith(BAD_ARGUMENTS_PREFIX)
    return isinstance(error, OSError) and not is_disk_error(error)


def is_disk_error(error: BaseException) -> bool:
    """Return whether an OSError is of a file or disk; any other is of a connection."""
    return isinstance(error, OSError) and (error.filename is not None or error.errno in DISK_ERRNOS)


def as_unavailable_error(error: BaseException) -> TelewarmError | None:
    """Return the error for an unavailable database or disk. None: a bug, not an outage."""
    if isinstance(error, OSError) and is_disk_error(error):
        return StoreUnavailable(
            f"the data folder cannot be used ({error.strerror}): check its disk, its rights and TELEWARM_DATA"
        )
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return DatabaseForbidden(
            f"the database's role lacks a right ({error}): grant what docs/backup-and-restore.md lists under Grants"
        )
    if is_transient(error):
        return DatabaseUnavailable("the database does not answer; ask again shortly, and check PostgreSQL if it lasts")
    return None
