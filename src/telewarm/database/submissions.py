"""Submissions of a message with a list, and the search for an equal one."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import structs

from telewarm.database import broadcasts, deliveries
from telewarm.database.broadcasts import CHANNEL, by_fingerprint
from telewarm.database.connection import Connection, Executor, Pool, query
from telewarm.models import Broadcast, BroadcastId, BroadcastState, MediaId, MessageSet

ADVISORY_LOCK_CLASS = 0x7E1E_B40A  # the first of the two keys of our advisory locks


async def fingerprint(db: Executor, submitted: Sequence[Broadcast]) -> bytes:
    """Return the fingerprint of bots, visible content and recipients, in any order.

    `submitted`: loaded broadcasts of one submission that have recipients.
    """
    digest = hashlib.sha256(_canonical_bytes(submitted[0].message, await _media_contents(db, submitted[0].message)))
    for one in sorted(submitted, key=lambda one: one.bot_id):
        row = await db.fetchrow(query("recipients_digest"), one.id)
        digest.update(msgspec.json.encode([one.bot_id, *(row or ())]))
    return digest.digest()


async def find_earlier(db: Executor, digest: bytes, *, ended_within_seconds: float) -> list[list[Broadcast]]:
    """Return submissions with this fingerprint that are unfinished or ended within some seconds, newest first.

    Those of several bots are grouped.
    """
    groups: dict[BroadcastId, list[Broadcast]] = {}
    for one in await by_fingerprint(db, digest, ended_within_seconds=ended_within_seconds):
        groups.setdefault(one.group_id or one.id, []).append(one)
    return sorted(groups.values(), key=lambda group: -group[0].id)


async def lock(connection: Connection, digest: bytes) -> None:
    """Lock a fingerprint against concurrent submissions, until the caller's transaction ends."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, $2)", ADVISORY_LOCK_CLASS, int.from_bytes(digest[:4], "big", signed=True)
    )


async def start(connection: Connection, ids: Sequence[BroadcastId], digest: bytes) -> list[BroadcastId]:
    """Start or schedule the drafts of one submission. Returns those that still existed."""
    rows = await connection.fetch(query("start_submission"), ids, digest, CHANNEL)
    return [BroadcastId(row["id"]) for row in rows]


async def save_fingerprint(db: Executor, broadcast: Broadcast) -> None:
    """Store the fingerprint of a draft that a person loaded and starts.

    Not for those of several bots, which start one by one.
    """
    if broadcast.group_id is None:
        found_by = await fingerprint(db, [broadcast])
        await db.execute("UPDATE broadcast SET fingerprint = $2 WHERE id = $1", broadcast.id, found_by)


async def keep_as_drafts(db: Executor, ids: Sequence[BroadcastId]) -> None:
    """Turn the drafts of a submission into ordinary ones, independent of the process that loaded them."""
    await db.execute("UPDATE broadcast SET loader = NULL WHERE id = ANY ($1::bigint[])", ids)


async def find_abandoned(db: Executor) -> list[BroadcastId]:
    """Return drafts whose process died while it loaded them."""
    rows = await db.fetch(
        "SELECT broadcast.id, lease.holder FROM broadcast"
        " LEFT JOIN lease ON lease.id = broadcast.loader AND lease.expires_at > now()"
        " WHERE loader IS NOT NULL AND state = ANY ($1::text[])",
        [BroadcastState.DRAFT, BroadcastState.CANCELLED],  # the latter: its deletion was broken off
    )
    return [BroadcastId(row["id"]) for row in rows if row["holder"] is None or _is_dead_local_process(row["holder"])]


def _is_dead_local_process(holder: str) -> bool:
    """Return whether a process of this machine has died, which its lease shows only seconds later."""
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


async def delete_abandoned(pool: Pool) -> int:
    """Delete abandoned drafts with their recipients. Returns their number."""
    found = await find_abandoned(pool)
    for broadcast_id in found:
        await broadcasts.set_state(pool, broadcast_id, BroadcastState.CANCELLED, only_from=[BroadcastState.DRAFT])
        while await deliveries.delete_some(pool, broadcast_id):
            pass
        await broadcasts.delete(pool, broadcast_id, only_in=[BroadcastState.CANCELLED])
    return len(found)


async def _media_contents(db: Executor, message: MessageSet) -> dict[MediaId, str]:
    """Return bytes and kind of each item of the message: an item deleted and added again is equal."""
    ids = [part.media_id for part in message.media]
    rows = await db.fetch("SELECT id, kind, sha256 FROM media WHERE id = ANY ($1::bigint[])", ids)
    return {MediaId(row["id"]): f"{row['kind']}:{row['sha256']}" for row in rows}


def _canonical_bytes(message: MessageSet, contents: Mapping[MediaId, str]) -> bytes:
    parts = [{**structs.asdict(part), "media_id": contents.get(part.media_id, "")} for part in message.media]
    return msgspec.json.encode({**structs.asdict(message), "media": parts}, enc_hook=str, order="sorted")
