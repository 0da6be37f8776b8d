"""Table `bot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg
import msgspec

from telewarm.database.connection import Executor, query
from telewarm.database.token_encryption import TokenCipher
from telewarm.errors import BotDeleted, Conflict, NoSuchBot, NotFound
from telewarm.models import Bot, BotId, ChatId

CHANNEL = "telewarm_bot"  # NOTIFY: the id of a bot whose row changed
FLOOD_CHANNEL = "telewarm_flood_wait"  # NOTIFY: <bot id>:<chat id, or nothing for the whole bot>:<seconds>
COLUMNS = (
    "id, slug, telegram_id, username, token_sealed, warmup_chats, learned, deleted_at, paused_at IS NOT NULL AS paused,"
    " greatest(0, extract(epoch FROM paused_until - now()))::float8 AS pause_left,"
    " ARRAY(SELECT (chat_id, extract(epoch FROM until - now())::float8) FROM flood_wait"
    " WHERE bot_id = bot.id AND until > now()) AS closed_chats"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PausedBot:
    """A bot with a pause.

    `paused`: by a person. `flood_wait`: remaining seconds of the whole bot's, 0 for none. `chats_waiting`: chats with a
    flood wait of their own, the longest of `longest_chat_wait` seconds.
    """

    slug: str
    paused: bool
    flood_wait: float
    chats_waiting: int
    longest_chat_wait: float


async def insert(
    db: Executor,
    cipher: TokenCipher,
    *,
    slug: str,
    token: str,
    telegram_id: int,
    username: str | None,
    chats: Sequence[ChatId],
) -> Bot:
    """Insert a bot. Raises Conflict when the slug or the Telegram bot exists already, even as a deleted one."""
    await _refuse_deleted(db, slug=slug, telegram_id=telegram_id)
    try:
        row = await db.fetchrow(
            f"INSERT INTO bot (slug, telegram_id, username, token_sealed, warmup_chats)"
            f" VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}",
            slug,
            telegram_id,
            username,
            cipher.encrypt(token, telegram_id=telegram_id),
            list(chats),
        )
    except asyncpg.UniqueViolationError as error:
        taken = f"slug {slug!r}" if "slug" in (error.constraint_name or "") else f"Telegram bot {telegram_id}"
        raise Conflict(f"{taken} is in Telewarm already; choose another, or update that bot") from None
    assert row is not None  # noqa: S101 - INSERT … RETURNING gives its row
    return _bot(row, cipher)


async def replace_token(
    db: Executor, cipher: TokenCipher, bot_id: BotId, *, token: str, telegram_id: int, username: str | None
) -> tuple[Bot, bool]:
    """Replace the token. Returns the bot, and whether it is another Telegram bot now.

    In that case the learned limits are dropped, and the file ids have to be invalidated. Notifies all processes. Raises
    Conflict. In the caller's transaction.
    """
    await _refuse_deleted(db, slug=None, telegram_id=telegram_id)
    before = await db.fetchval("SELECT telegram_id FROM bot WHERE id = $1 FOR UPDATE", bot_id)
    another = before != telegram_id
    if another:
        await db.execute("DELETE FROM flood_wait WHERE bot_id = $1", bot_id)
    try:
        row = await db.fetchrow(
            "UPDATE bot SET token_sealed = $2, telegram_id = $3, username = $4,"
            " paused_until = CASE WHEN $5 THEN NULL ELSE paused_until END,"
            f" learned = CASE WHEN $5 THEN '{{}}' ELSE learned END WHERE id = $1 RETURNING {COLUMNS}",
            bot_id,
            cipher.encrypt(token, telegram_id=telegram_id),
            telegram_id,
            username,
            another,
        )
    except asyncpg.UniqueViolationError:
        raise Conflict(f"Telegram bot {telegram_id} is in Telewarm already, under another slug") from None
    if row is None:
        raise NotFound(f"bot {bot_id} is gone")
    await db.execute("SELECT pg_notify($1, $2)", CHANNEL, str(bot_id))
    return _bot(row, cipher), another


async def replace_warmup_chats(db: Executor, cipher: TokenCipher, bot_id: BotId, chats: Sequence[ChatId]) -> Bot:
    """Replace the warm-up chats. Notifies all processes."""
    row = await db.fetchrow(
        f"WITH told AS (SELECT pg_notify($3, $1::bigint::text)) UPDATE bot SET warmup_chats = $2 FROM told"
        f" WHERE id = $1 RETURNING {COLUMNS}",
        bot_id,
        list(chats),
        CHANNEL,
    )
    if row is None:
        raise NotFound(f"bot {bot_id} is gone")
    return _bot(row, cipher)


async def migrate_warmup_chat(db: Executor, cipher: TokenCipher, bot_id: BotId, old: ChatId, new: ChatId) -> Bot | None:
    """Replace a warm-up group by the supergroup that it became, once.

    None when the group is no longer a warm-up chat of the bot. Notifies all processes.
    """
    row = await db.fetchrow(
        "WITH told AS (SELECT pg_notify($4, $1::bigint::text)) UPDATE bot SET"
        " warmup_chats = CASE WHEN $3 = ANY (warmup_chats) THEN array_remove(warmup_chats, $2)"
        "  ELSE array_replace(warmup_chats, $2, $3) END FROM told"
        f" WHERE id = $1 AND $2 = ANY (warmup_chats) RETURNING {COLUMNS}",
        bot_id,
        old,
        new,
        CHANNEL,
    )
    return None if row is None else _bot(row, cipher)


async def _refuse_deleted(db: Executor, *, slug: str | None, telegram_id: int) -> None:
    """Raise Conflict when a deleted bot has the slug or the token, which the caller probably wants to restore."""
    deleted = await db.fetchval(
        "SELECT slug FROM bot WHERE deleted_at IS NOT NULL AND (slug = $1 OR telegram_id = $2)"
        " ORDER BY slug = $1 DESC LIMIT 1",
        slug,
        telegram_id,
    )
    if deleted is not None:
        taken = f"slug {slug!r}" if deleted == slug else f"Telegram bot {telegram_id}"
        error = BotDeleted(deleted)
        raise Conflict(f"{taken} is in Telewarm already: {error.summary}", by_face=error.by_face)


async def slugs(db: Executor) -> list[str]:
    """Return the slugs of all bots in order, without deleted ones."""
    return [row["slug"] for row in await db.fetch("SELECT slug FROM bot WHERE deleted_at IS NULL ORDER BY slug")]


async def by_slug(db: Executor, cipher: TokenCipher, slug: str) -> Bot:
    """Return a bot by slug. Raises NotFound, BotDeleted."""
    row = await db.fetchrow(f"SELECT {COLUMNS} FROM bot WHERE slug = $1", slug)
    if row is None:
        raise NoSuchBot(slug)
    if row["deleted_at"] is not None:
        raise BotDeleted(slug)
    return _bot(row, cipher)


async def by_id(db: Executor, cipher: TokenCipher, bot_id: BotId) -> Bot:
    """Return a bot by id, also a deleted one."""
    row = await db.fetchrow(f"SELECT {COLUMNS} FROM bot WHERE id = $1", bot_id)
    if row is None:
        raise NotFound(f"bot {bot_id} is gone")
    return _bot(row, cipher)


async def bots_sharing_warmup_chats(db: Executor, bot_id: BotId) -> list[BotId]:
    """Return the other bots with a warm-up chat in common: they can forward each other's messages."""
    rows = await db.fetch(
        "SELECT other.id FROM bot, bot AS other"
        " WHERE bot.id = $1 AND other.id <> $1 AND other.warmup_chats && bot.warmup_chats",
        bot_id,
    )
    return [BotId(row["id"]) for row in rows]


async def pause(db: Executor, bot_id: BotId, chat_id: ChatId | None, seconds: float) -> None:
    """Store the flood wait of a chat, or (None) of the whole bot. It only grows. Notifies all processes."""
    payload = f"{bot_id}:{'' if chat_id is None else chat_id}:{seconds}"
    if chat_id is None:
        await db.execute(
            "WITH written AS (UPDATE bot SET paused_until = greatest(paused_until, now() + make_interval(secs => $2))"
            " WHERE id = $1) SELECT pg_notify($3, $4)",
            bot_id,
            seconds,
            FLOOD_CHANNEL,
            payload,
        )
        return
    await db.execute(
        "WITH written AS (INSERT INTO flood_wait (bot_id, chat_id, until)"
        " VALUES ($1, $2, now() + make_interval(secs => $3)) ON CONFLICT (bot_id, chat_id)"
        " DO UPDATE SET until = greatest(flood_wait.until, EXCLUDED.until)) SELECT pg_notify($4, $5)",
        bot_id,
        chat_id,
        seconds,
        FLOOD_CHANNEL,
        payload,
    )


async def update_username(db: Executor, bot_id: BotId, username: str) -> None:
    """Store a changed username. Notifies all processes."""
    await db.execute(
        "WITH changed AS (UPDATE bot SET username = $2 WHERE id = $1 AND username IS DISTINCT FROM $2 RETURNING id)"
        " SELECT pg_notify($3, id::text) FROM changed",
        bot_id,
        username,
        CHANNEL,
    )


async def delete_expired_flood_waits(db: Executor) -> None:
    """Delete flood waits that have ended."""
    await db.execute("DELETE FROM flood_wait WHERE until < now()")


async def save_learned_limits(db: Executor, bot_id: BotId, limits: Mapping[str, float]) -> None:
    """Store learned limits, without a notification: each process learns for itself while it runs."""
    await db.execute("UPDATE bot SET learned = $2 WHERE id = $1", bot_id, msgspec.json.encode(limits).decode())


async def set_paused(db: Executor, bot_id: BotId, *, paused: bool) -> bool:
    """Pause or resume the bot's background work. Returns whether that changed anything. Notifies all processes."""
    changed = await db.fetchval(
        "WITH written AS (UPDATE bot SET paused_at = CASE WHEN $2 THEN now() END"
        " WHERE id = $1 AND (paused_at IS NOT NULL) <> $2 RETURNING id)"
        " SELECT count(pg_notify($3, id::text)) FROM written",
        bot_id,
        paused,
        CHANNEL,
    )
    return bool(changed)


async def paused_bots(db: Executor, *, limit: int) -> list[PausedBot]:
    """Return the bots that are held back in any way, by slug."""
    return [PausedBot(**row) for row in await db.fetch(query("paused_bots"), limit)]


async def count(db: Executor) -> int:
    """Return the number of bots, without deleted ones."""
    return int(await db.fetchval("SELECT count(*) FROM bot WHERE deleted_at IS NULL"))


async def pause_seconds(db: Executor, bot_id: BotId) -> float:
    """Return the remaining seconds of the bot's flood wait; 0 for none."""
    left = await db.fetchval(
        "SELECT extract(epoch FROM paused_until - now())::float8 FROM bot WHERE id = $1 AND paused_until > now()",
        bot_id,
    )
    return float(left or 0)


def _bot(row: asyncpg.Record, cipher: TokenCipher) -> Bot:
    return Bot(
        id=row["id"],
        slug=row["slug"],
        telegram_id=row["telegram_id"],
        username=row["username"],
        token=cipher.decrypt(row["token_sealed"], telegram_id=row["telegram_id"]),
        warmup_chats=tuple(row["warmup_chats"]),
        paused=row["paused"],
        pause_seconds=row["pause_left"],
        chat_pauses={ChatId(chat): seconds for chat, seconds in row["closed_chats"]},
        learned_limits=msgspec.json.decode(row["learned"], type=dict[str, float]),
        deleted_at=row["deleted_at"],
    )
