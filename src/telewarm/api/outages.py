"""What a lost database or a full disk raises, as errors of ours."""

from __future__ import annotations

import asyncpg

from telewarm.errors import DatabaseUnavailable, StoreUnavailable, TelewarmError

# What Postgres says when it is going away, coming back, or out of something, and the driver's own state on a connection
# that broke in its hands (InternalClientError). Other refusals are bugs of ours.
AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
    TimeoutError,
)


def outage(error: Exception) -> TelewarmError | None:
    """None: not an outage but a bug. An OSError that names a file is the disk's; any other is the database's."""
    if isinstance(error, OSError) and error.filename is not None:
        return StoreUnavailable(
            f"the data folder cannot be used ({error.strerror}): check its disk, its rights and TELEWARM_DATA"
        )
    lost = isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)  # ValueError: bad arguments
    if lost or isinstance(error, (*AWAY, OSError)):
        return DatabaseUnavailable("the database does not answer; ask again shortly, and check PostgreSQL if it lasts")
    return None
