"""Bots in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field, SecretStr

from telewarm.api.services import Serving
from telewarm.model import Bot, ChatId

router = APIRouter(tags=["bots"])


class NewBot(BaseModel):
    slug: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="Your name for the bot")]
    token: Annotated[SecretStr, Field(description="From @BotFather; checked with getMe, kept sealed, never returned")]
    warmup_chats: Annotated[
        list[int], Field(min_length=1, max_length=64, description="Ids of private chats the bot may post to")
    ]


@router.post("/bots", status_code=201)
async def create_bot(body: NewBot, serving: Serving) -> dict[str, object]:
    """Check the token with Telegram and keep the bot."""
    bot = await serving.bots.create(
        slug=body.slug,
        token=body.token.get_secret_value().strip(),
        warmup_chats=[ChatId(chat) for chat in dict.fromkeys(body.warmup_chats)],
    )
    return {"ok": True, "bot": describe(bot)}


def describe(bot: Bot) -> dict[str, object]:
    return {
        "id": bot.id,
        "slug": bot.slug,
        "telegram_id": bot.telegram_id,
        "username": bot.username,
        "warmup_chats": list(bot.warmup_chats),
    }
