"""Databases restored from a backup, or set back by a failover.

What was sent since that state is unknown in it. So no active or scheduled broadcast continues until a person resumes
it: `mark_restored` pauses them, with a reason that names the command.
"""

from __future__ import annotations

from telewarm.database.broadcasts import CHANNEL
from telewarm.database.connection import Connection, query

RESTORED_REASON = (
    "This database was restored from a backup, or its server failed over to an older state: what was sent since then"
    " is not known here. Look at who has it already. To go on: telewarm broadcast resume {id}"
    " (whoever got it since the backup gets it twice). To end it: telewarm broadcast cancel {id}"
)


async def mark_restored(connection: Connection) -> int:
    """Pause all active and scheduled broadcasts, and count this database as another one from now on.

    For a migrated database, in one transaction: after `pg_restore`, before any process uses it. Returns the number of
    paused broadcasts.
    """
    paused = await connection.fetchval(query("mark_restored"), RESTORED_REASON, CHANNEL)
    return int(paused)
