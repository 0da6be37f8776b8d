"""A database that was restored from a backup, or whose server failed over to an older state.

What was sent since that backup is not known in it. So nothing that was being sent, or was scheduled, goes on until a
person says so: `mark_restored` pauses it, with a reason that names the command.
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
    """Pause every broadcast that is being sent or scheduled, and count this database as another from now on.

    For a migrated database, in one transaction: after `pg_restore`, before any process works on it. How many
    broadcasts were paused.
    """
    paused = await connection.fetchval(query("mark_restored"), RESTORED_REASON, CHANNEL)
    return int(paused)
