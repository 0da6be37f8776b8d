"""The table `bot`."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from telewarm.database.connection import Executor
from telewarm.database.sealing import Seal
from telewarm.errors import Conflict, NotFound
from telewarm.model import Bot, BotId, ChatId

COLUMNS = (
    "id, slug, telegram_id, username, token_sealed, warmup_chats,"
    " greatest(0, extract(epoch FROM paused_until - now()))::float8 AS pause_left"
)


async def insert(
    db: Executor, seal: Seal, *, slug: str, token: str, telegram_id: int, username: str | None, chats: Sequence[ChatId]
) -> Bot:
    """Raises Conflict when the slug or the Telegram bot is here already."""
    try:
        row = await db.fetchrow(
            f"INSERT INTO bot (slug, telegram_id, username, token_sealed, warmup_chats)"
            f" VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}",
            slug,
            telegram_id,
            username,
            seal.close(token, telegram_id=telegram_id),
            list(chats),
        )
    except asyncpg.UniqueViolationError as error:
        taken = f"slug {slug!r}" if "slug" in (error.constraint_name or "") else f"Telegram bot {telegram_id}"
        raise Conflict(f"{taken} is in Telewarm already; choose another, or update that bot") from None
    assert row is not None  # noqa: S101 - INSERT … RETURNING gives its row
    return _bot(row, seal)


async def by_slug(db: Executor, seal: Seal, slug: str) -> Bot:
    row = await db.fetchrow(f"SELECT {COLUMNS} FROM bot WHERE slug = $1", slug)
    if row is None:
        raise NotFound(f"no bot has the slug {slug!r}; create it with POST /api/admin/bots")
    return _bot(row, seal)


async def by_id(db: Executor, seal: Seal, bot_id: BotId) -> Bot:
    row = await db.fetchrow(f"SELECT {COLUMNS} FROM bot WHERE id = $1", bot_id)
    if row is None:
        raise NotFound(f"bot {bot_id} is gone")
    return _bot(row, seal)


async def sharers(db: Executor, bot_id: BotId) -> list[BotId]:
    """The other bots that have a warm-up chat in common with this one: they can forward each other's messages."""
    rows = await db.fetch(
        "SELECT other.id FROM bot, bot AS other"
        " WHERE bot.id = $1 AND other.id <> $1 AND other.warmup_chats && bot.warmup_chats",
        bot_id,
    )
    return [BotId(row["id"]) for row in rows]


async def pause(db: Executor, bot_id: BotId, seconds: float) -> None:
    """A flood wait of the whole bot. A pause only ever grows."""
    await db.execute(
        "UPDATE bot SET paused_until = greatest(paused_until, now() + make_interval(secs => $2)) WHERE id = $1",
        bot_id,
        seconds,
    )


async def pause_left(db: Executor, bot_id: BotId) -> float:
    """Seconds until the bot may speak again, 0 when it may now."""
    left = await db.fetchval(
        "SELECT extract(epoch FROM paused_until - now())::float8 FROM bot WHERE id = $1 AND paused_until > now()",
        bot_id,
    )
    return float(left or 0)


def _bot(row: asyncpg.Record, seal: Seal) -> Bot:
    return Bot(
        id=row["id"],
        slug=row["slug"],
        telegram_id=row["telegram_id"],
        username=row["username"],
        token=seal.open(row["token_sealed"], telegram_id=row["telegram_id"]),
        warmup_chats=tuple(row["warmup_chats"]),
        pause_left=row["pause_left"],
    )
