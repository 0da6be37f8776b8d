"""Table `broadcast`, read together with its run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from telewarm.cures import Cure
from telewarm.database.connection import Executor, query
from telewarm.errors import Conflict, NotFound
from telewarm.models import BotId, Broadcast, BroadcastId, BroadcastState, DeliveryStatus, Kind, MediaId, MessageSet

CHANNEL = "telewarm_broadcast"  # NOTIFY: the id of a broadcast that changed its state or came further
OUTCOME_COLUMNS = ", ".join(f"broadcast_run.{outcome}" for outcome in DeliveryStatus)
COLUMNS = (
    "broadcast.id, broadcast.bot_id, broadcast.group_id, broadcast.name, broadcast.message, broadcast.state,"
    " broadcast.reason, broadcast.gate, broadcast.per_second, broadcast.recipients, broadcast.duplicates,"
    f" broadcast.rejected, broadcast.guess, broadcast.refusal, {OUTCOME_COLUMNS}, broadcast_run.not_undone,"
    " cardinality(broadcast_run.in_flight) AS in_flight,"
    " broadcast.starts_at, broadcast.created_at, broadcast.started_at, broadcast.ended_at"
)
FROM = "broadcast JOIN broadcast_run ON broadcast_run.broadcast_id = broadcast.id"
BOT_NOT_DELETED = "(SELECT deleted_at FROM bot WHERE bot.id = broadcast.bot_id) IS NULL"
SELECT_ONE = f"SELECT {COLUMNS} FROM {FROM} WHERE broadcast.id = $1"
SELECT_MANY = f"SELECT {COLUMNS} FROM {FROM} WHERE broadcast.id = ANY ($1::bigint[]) ORDER BY broadcast.id"
SELECT_BY_FINGERPRINT = (
    f"SELECT {COLUMNS} FROM {FROM} WHERE broadcast.fingerprint = $1"
    " AND (broadcast.ended_at IS NULL OR broadcast.ended_at > now() - make_interval(secs => $2)) ORDER BY broadcast.id"
)
SELECT_PAGE = (
    f"SELECT {COLUMNS} FROM {FROM} WHERE ($1::bigint IS NULL OR broadcast.id < $1) AND {BOT_NOT_DELETED}"
    " ORDER BY broadcast.id DESC LIMIT $2"
)
SELECT_PAGE_OF_BOT = (
    f"SELECT {COLUMNS} FROM {FROM} WHERE broadcast.bot_id = $3 AND ($1::bigint IS NULL OR broadcast.id < $1)"
    " ORDER BY broadcast.id DESC LIMIT $2"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyKey:
    """An idempotency key, with the hash of the request."""

    text: str
    request_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftOptions:
    """What may be said of a draft besides its message. `gate`: whether it waits until its media are ready."""

    name: str | None = None
    gate: bool = True
    per_second: float | None = None
    starts_at: datetime | None = None


NO_OPTIONS = DraftOptions()


async def insert(
    db: Executor,
    *,
    bot_id: BotId,
    message: MessageSet,
    options: DraftOptions = NO_OPTIONS,
    loader: UUID | None = None,
    key: IdempotencyKey | None = None,
) -> Broadcast:
    """Insert a draft without recipients, and its run. `loader`: lease of the process that submits it as a whole."""
    made = await db.fetchval(
        query("insert_broadcast"),
        bot_id,
        options.name,
        msgspec.json.encode(message, enc_hook=str).decode(),  # `Safe` texts are nearly texts
        [part.media_id for part in message.media],
        options.gate,
        options.per_second,
        options.starts_at,
        loader,
        key and key.text,
        key and key.request_hash,
    )
    return await get(db, BroadcastId(made))


async def create_group(db: Executor, ids: Sequence[BroadcastId]) -> list[Broadcast]:
    """Group broadcasts that were created together; the first one's id is the group's."""
    await db.execute("UPDATE broadcast SET group_id = $2 WHERE id = ANY ($1::bigint[])", ids, ids[0])
    return await get_many(db, ids)


async def save_guess(db: Executor, ids: Sequence[BroadcastId], guess: str) -> None:
    """Store why a person should check the recipients before the start."""
    await db.execute("UPDATE broadcast SET guess = $2 WHERE id = ANY ($1::bigint[]) AND state = 'draft'", ids, guess)


async def confirm_guess(db: Executor, broadcast_id: BroadcastId) -> None:
    """Record that a person has checked the recipients."""
    await db.execute("UPDATE broadcast SET guess = NULL WHERE id = $1 AND guess IS NOT NULL", broadcast_id)


async def get(db: Executor, broadcast_id: BroadcastId) -> Broadcast:
    """Return a broadcast. Raises NotFound."""
    return _require(await db.fetchrow(SELECT_ONE, broadcast_id), broadcast_id)


async def lock(db: Executor, broadcast_id: BroadcastId) -> Broadcast:
    """Return a broadcast, locked against changes and new recipients until the caller's transaction ends.

    Raises NotFound.
    """
    return _require(await db.fetchrow(f"{SELECT_ONE} FOR NO KEY UPDATE OF broadcast", broadcast_id), broadcast_id)


async def get_many(db: Executor, ids: Sequence[BroadcastId]) -> list[Broadcast]:
    """Return existing broadcasts in the order of the ids, in one statement."""
    return [_broadcast(row) for row in await db.fetch(SELECT_MANY, ids)]


async def page(
    db: Executor, *, bot_id: BotId | None = None, limit: int, before: BroadcastId | None = None
) -> list[Broadcast]:
    """Return broadcasts, newest first, before another one; those of a deleted bot only if it is named."""
    if bot_id is None:
        rows = await db.fetch(SELECT_PAGE, before, limit)
    else:
        rows = await db.fetch(SELECT_PAGE_OF_BOT, before, limit, bot_id)
    return [_broadcast(row) for row in rows]


async def by_idempotency_key(db: Executor, bot_id: BotId, key: IdempotencyKey) -> list[Broadcast]:
    """Return all broadcasts that were created with this key; empty for a new key.

    Raises Conflict when the key belongs to another request.
    """
    row = await db.fetchrow(
        "SELECT id, group_id, key_hash FROM broadcast WHERE bot_id = $1 AND key = $2", bot_id, key.text
    )
    if row is None:
        return []
    if row["key_hash"] != key.request_hash:
        raise Conflict(
            f"the idempotency key {key.text!r} was used for another broadcast: use a new key for a new broadcast"
        )
    ids = await db.fetch("SELECT id FROM broadcast WHERE id = $1 OR group_id = $2", row["id"], row["group_id"])
    return await get_many(db, [BroadcastId(found["id"]) for found in ids])


async def by_fingerprint(db: Executor, fingerprint: bytes, *, ended_within_seconds: float) -> list[Broadcast]:
    """Return broadcasts with a fingerprint that are unfinished, or ended within some seconds, by id."""
    rows = await db.fetch(SELECT_BY_FINGERPRINT, fingerprint, ended_within_seconds)
    return [_broadcast(row) for row in rows]


async def group_members(db: Executor, broadcast: Broadcast) -> dict[str, BroadcastId]:
    """Return the broadcasts that were created together with this one, itself included, by bot slug."""
    rows = await db.fetch(
        "SELECT bot.slug, broadcast.id FROM broadcast JOIN bot ON bot.id = broadcast.bot_id"
        " WHERE broadcast.id = $1 OR (broadcast.group_id = $2 AND broadcast.id >= $2) ORDER BY broadcast.id",
        broadcast.id,
        broadcast.group_id,
    )
    return {row["slug"]: BroadcastId(row["id"]) for row in rows}


async def send_kinds(db: Executor, *, bot_id: BotId, media_ids: Sequence[MediaId]) -> dict[MediaId, Kind]:
    """Return the kinds as which the bot's media are sent."""
    rows = await db.fetch(
        "SELECT id, coalesce(sent_kind, kind) AS kind FROM media WHERE bot_id = $1 AND id = ANY ($2::bigint[])",
        bot_id,
        media_ids,
    )
    return {MediaId(row["id"]): Kind(row["kind"]) for row in rows}


async def equivalent_media(db: Executor, *, bot_id: BotId, media_ids: Sequence[MediaId]) -> dict[MediaId, MediaId]:
    """Return, for media items of any bot, this bot's own items of the same bytes and kind."""
    rows = await db.fetch(
        "SELECT media.id, twin.id AS twin FROM media"
        " JOIN media AS twin ON twin.sha256 = media.sha256 AND twin.kind = media.kind AND twin.bot_id = $1"
        " WHERE media.id = ANY ($2::bigint[])",
        bot_id,
        media_ids,
    )
    return {MediaId(row["id"]): MediaId(row["twin"]) for row in rows}


async def set_state(
    db: Executor,
    broadcast_id: BroadcastId,
    state: BroadcastState,
    *,
    only_from: Collection[BroadcastState],
    reason: str | None = None,
    refusal: str | None = None,
) -> bool:
    """Change the state. Returns whether it was one of `only_from`. Notifies all processes.

    `running` sets the start and clears the end, and becomes `scheduled` before the start time; `done` and `cancelled`
    set the end. `reason`: unless a person did it. `refusal`: Telegram's description, if that is the reason.
    """
    changed = await db.fetchval(
        query("set_broadcast_state"), broadcast_id, state, list(only_from), reason, CHANNEL, refusal
    )
    return bool(changed)


async def set_reason(db: Executor, broadcast_id: BroadcastId, reason: str | None) -> None:
    """Store why a running broadcast waits; None when it does not. Notifies all processes."""
    await db.execute(
        "WITH changed AS (UPDATE broadcast SET reason = $2 WHERE id = $1 AND state = 'running' RETURNING id)"
        " SELECT pg_notify($3, id::text) FROM changed",
        broadcast_id,
        reason,
        CHANNEL,
    )


async def schedule(db: Executor, broadcast_id: BroadcastId, starts_at: datetime) -> None:
    """Set the start time of an unstarted broadcast; a scheduled one that is due runs. Notifies all processes."""
    await db.execute(
        "WITH changed AS (UPDATE broadcast SET starts_at = $2,"
        " state = CASE WHEN state = 'scheduled' AND $2 <= now() THEN 'running' ELSE state END,"
        " started_at = CASE WHEN state = 'scheduled' AND $2 <= now() THEN now() ELSE started_at END"
        " WHERE id = $1 RETURNING id)"
        " SELECT pg_notify($3, id::text) FROM changed",
        broadcast_id,
        starts_at,
        CHANNEL,
    )


async def add_import_counts(
    db: Executor, broadcast_id: BroadcastId, *, added: int = 0, duplicates: int = 0, rejected: int = 0
) -> None:
    """Add to the counts of an import."""
    await db.execute(
        "UPDATE broadcast SET recipients = recipients + $2, duplicates = duplicates + $3, rejected = rejected + $4"
        " WHERE id = $1",
        broadcast_id,
        added,
        duplicates,
        rejected,
    )


async def delete(db: Executor, broadcast_id: BroadcastId, *, only_in: Collection[BroadcastState]) -> bool:
    """Delete a broadcast and its run. Returns whether it existed in one of these states."""
    gone = await db.fetchval(
        "DELETE FROM broadcast WHERE id = $1 AND state = ANY ($2::text[]) RETURNING true", broadcast_id, list(only_in)
    )
    return bool(gone)


LIST_CURE = Cure(
    library="`tw.broadcasts.page()` has those that there are",
    cli="list them with `telewarm broadcast list`",
    api="list them with GET /api/admin/broadcasts",
)


def _require(row: asyncpg.Record | None, broadcast_id: BroadcastId) -> Broadcast:
    if row is None:
        raise NotFound(f"there is no broadcast {broadcast_id}", by_face=LIST_CURE)
    return _broadcast(row)


def _broadcast(row: asyncpg.Record) -> Broadcast:
    message = msgspec.json.decode(row["message"], type=MessageSet)
    return Broadcast(
        id=row["id"],
        bot_id=row["bot_id"],
        group_id=row["group_id"],
        name=row["name"],
        message=msgspec.structs.replace(message, media=tuple(message.media)),
        state=BroadcastState(row["state"]),
        reason=row["reason"],
        refusal=row["refusal"],
        gate=row["gate"],
        per_second=row["per_second"],
        recipients=row["recipients"],
        duplicates=row["duplicates"],
        rejected=row["rejected"],
        guess=row["guess"],
        counts={outcome: row[outcome] for outcome in DeliveryStatus},
        not_undone=row["not_undone"],
        in_flight=row["in_flight"],
        starts_at=row["starts_at"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )
