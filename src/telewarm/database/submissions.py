"""Submissions of a message and a list together: which broadcast one was already."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import structs

from telewarm.database import broadcasts, deliveries
from telewarm.database.broadcasts import CHANNEL, of_fingerprint
from telewarm.database.connection import Connection, Executor, Pool, query
from telewarm.models import Broadcast, BroadcastId, BroadcastState, MediaId, MessageSet

LOCK = 0x7E1E_B40A  # the first of the two keys of our advisory locks


async def fingerprint(db: Executor, made: Sequence[Broadcast]) -> bytes:
    """Of the bots, of what recipients see, and of who they are, in whatever order they were given. `made`: those of
    one submission that have recipients, loaded.
    """
    digest = hashlib.sha256(_canonical(made[0].message, await _contents(db, made[0].message)))
    for one in sorted(made, key=lambda one: one.bot_id):
        row = await db.fetchrow(query("recipients_digest"), one.id)
        digest.update(msgspec.json.encode([one.bot_id, *(row or ())]))
    return digest.digest()


async def earlier(db: Executor, found_by: bytes, *, within: float) -> list[list[Broadcast]]:
    """Those with this fingerprint that have not ended, or ended so few seconds ago, newest first; those of several
    bots together.
    """
    groups: dict[BroadcastId, list[Broadcast]] = {}
    for one in await of_fingerprint(db, found_by, within=within):
        groups.setdefault(one.group_id or one.id, []).append(one)
    return sorted(groups.values(), key=lambda group: -group[0].id)


async def lock(connection: Connection, found_by: bytes) -> None:
    """Until the caller's transaction ends nobody else starts a submission with this fingerprint."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, $2)", LOCK, int.from_bytes(found_by[:4], "big", signed=True)
    )


async def start(connection: Connection, ids: Sequence[BroadcastId], found_by: bytes) -> list[BroadcastId]:
    """Drafts of one submission begin, or are scheduled for their time. Those that were still there."""
    rows = await connection.fetch(query("start_submission"), ids, found_by, CHANNEL)
    return [BroadcastId(row["id"]) for row in rows]


async def note(db: Executor, started: Broadcast) -> None:
    """A draft that a person made and loaded is found by its fingerprint, too. For its start; those of several bots
    start one by one and are found by nothing.
    """
    if started.group_id is None:
        found_by = await fingerprint(db, [started])
        await db.execute("UPDATE broadcast SET fingerprint = $2 WHERE id = $1", started.id, found_by)


async def keep(db: Executor, ids: Sequence[BroadcastId]) -> None:
    """They are drafts like others from now on, and no longer those of the process that loaded them."""
    await db.execute("UPDATE broadcast SET loader = NULL WHERE id = ANY ($1::bigint[])", ids)


async def abandoned(db: Executor) -> list[BroadcastId]:
    """Drafts whose process died while it loaded them to send them as a whole."""
    rows = await db.fetch(
        "SELECT broadcast.id, lease.holder FROM broadcast"
        " LEFT JOIN lease ON lease.id = broadcast.loader AND lease.expires_at > now()"
        " WHERE loader IS NOT NULL AND state = ANY ($1::text[])",
        [BroadcastState.DRAFT, BroadcastState.CANCELLED],  # the latter: its deletion was broken off
    )
    return [BroadcastId(row["id"]) for row in rows if row["holder"] is None or _died_here(row["holder"])]


def _died_here(holder: str) -> bool:
    """Whether the process was one of this machine, and is no more: its lease says so only some seconds later."""
    host, _, pid = holder.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


async def sweep(pool: Pool) -> int:
    """Delete them, with the list as far as it was loaded. How many."""
    found = await abandoned(pool)
    for broadcast_id in found:
        await broadcasts.set_state(pool, broadcast_id, BroadcastState.CANCELLED, only_from=[BroadcastState.DRAFT])
        while await deliveries.delete_some(pool, broadcast_id):
            pass
        await broadcasts.delete(pool, broadcast_id, only_in=[BroadcastState.CANCELLED])
    return len(found)


async def _contents(db: Executor, message: MessageSet) -> dict[MediaId, str]:
    """What each item of the message is: its bytes and kind. An item that was deleted and added again is the same."""
    ids = [part.media_id for part in message.media]
    rows = await db.fetch("SELECT id, kind, sha256 FROM media WHERE id = ANY ($1::bigint[])", ids)
    return {MediaId(row["id"]): f"{row['kind']}:{row['sha256']}" for row in rows}


def _canonical(message: MessageSet, contents: Mapping[MediaId, str]) -> bytes:
    parts = [{**structs.asdict(part), "media_id": contents.get(part.media_id, "")} for part in message.media]
    return msgspec.json.encode({**structs.asdict(message), "media": parts}, enc_hook=str, order="sorted")
