"""Routes: add a bot, replace its token and its warm-up chats."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, Field, SecretStr

from telewarm.api.dependencies import SLUG_SCHEMA, BotDep, LimitedBodyRoute, StateDep
from telewarm.api.openapi import responses_of
from telewarm.api.schemas.bodies import RequestBody
from telewarm.api.schemas.media_and_bots import BotCreated, WarmupChat
from telewarm.api.schemas.types import ChatOrName
from telewarm.bots.chat_names import SLUG_PATTERN
from telewarm.models import Bot

router = APIRouter(tags=["bots"], route_class=LimitedBodyRoute)

TELEGRAM_ERROR_CODES = ("TOKEN_REFUSED", "TELEGRAM_BAD_REQUEST", "TELEGRAM_FAULT", "TELEGRAM_UNREACHABLE", "FLOOD_WAIT")


def _check_slug(text: str) -> str:
    if SLUG_PATTERN.fullmatch(text) is None:
        raise ValueError(
            "must start with a letter or digit and have only a-z, 0-9, '.', '_' or '-', at most 63 characters"
        )
    return text


Slug = Annotated[
    str,
    AfterValidator(_check_slug),
    Field(description="Your name for the bot", examples=["shop"], json_schema_extra=SLUG_SCHEMA),
]

Token = Annotated[
    SecretStr,
    Field(
        description="From @BotFather; checked with getMe, kept sealed, never returned",
        examples=["123456789:AAE-what-BotFather-says"],
        json_schema_extra={"pattern": r"^\s*[1-9][0-9]{0,15}:[A-Za-z0-9_-]{1,80}\s*$"},
    ),
]
WarmupChats = Annotated[
    list[ChatOrName],
    Field(
        min_length=1,
        max_length=64,
        description="Ids of private chats the bot may post to, or `@names` of public ones; the first is preferred",
        examples=[[-1001234567890]],
    ),
]


class BotCreate(RequestBody):
    """A new bot."""

    slug: Slug
    token: Token
    warmup_chats: WarmupChats


class BotTokenUpdate(RequestBody):
    """A token of Telegram."""

    token: Token


class WarmupChatsUpdate(RequestBody):
    """Warm-up chats, the preferred one first."""

    warmup_chats: WarmupChats


class WarmupChatAdd(RequestBody):
    """One warm-up chat."""

    warmup_chat_id: Annotated[
        ChatOrName,
        Field(
            description="A private chat that the bot may post to; a number, a text of one, or `@name` of a public one",
            examples=[-1001234567890],
        ),
    ]


@router.post(
    "/bots", **responses_of(BotCreated, "CONFLICT", *TELEGRAM_ERROR_CODES, status=201, description="The bot is kept")
)
async def create_bot(body: BotCreate, serving: StateDep) -> dict[str, object]:
    """Check the token with Telegram and add the bot."""
    bot = await serving.bots.create(
        slug=body.slug,
        token=body.token.get_secret_value().strip(),
        warmup_chats=body.warmup_chats,
    )
    return {"ok": True, "bot": describe(bot)}


@router.put(
    "/bots/{slug}/token",
    **responses_of(BotCreated, "NOT_FOUND", "CONFLICT", *TELEGRAM_ERROR_CODES, description="Used from now on"),
)
async def replace_token(body: BotTokenUpdate, session: BotDep, serving: StateDep) -> dict[str, object]:
    """Check the token with Telegram and replace it.

    If it belongs to another Telegram bot, all media are warmed again, because file ids belong to a bot.
    """
    bot = await serving.bots.replace_token(session.bot.slug, body.token.get_secret_value().strip())
    return {"ok": True, "bot": describe(bot)}


@router.put("/bots/{slug}/warmup-chats", **responses_of(BotCreated, "NOT_FOUND", description="Used from now on"))
async def replace_chats(body: WarmupChatsUpdate, session: BotDep, serving: StateDep) -> dict[str, object]:
    """Replace the warm-up chats. Existing file ids stay valid."""
    bot = await serving.bots.replace_chats(session.bot.slug, body.warmup_chats)
    return {"ok": True, "bot": describe(bot)}


@router.put("/bots/{slug}/warmup-chat", **responses_of(WarmupChat, "NOT_FOUND", description="Used from now on"))
async def replace_chat(body: WarmupChatAdd, session: BotDep, serving: StateDep) -> dict[str, object]:
    """Replace the warm-up chats by this one: the Node system's route."""
    bot = await serving.bots.replace_chats(session.bot.slug, [body.warmup_chat_id])
    return {"ok": True, "slug": bot.slug, "warmup_chat_id": bot.warmup_chats[0]}


def describe(bot: Bot) -> dict[str, object]:
    """Return a bot as JSON."""
    return {
        "id": bot.id,
        "slug": bot.slug,
        "telegram_id": bot.telegram_id,
        "username": bot.username,
        "warmup_chats": list(bot.warmup_chats),
    }
