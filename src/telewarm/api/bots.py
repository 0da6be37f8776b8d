"""Bots in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field, SecretStr

from telewarm.api.answers import ApiError
from telewarm.api.services import SLUG, Serving, SmallBody
from telewarm.errors import TokenRefused
from telewarm.model import Bot, ChatId

router = APIRouter(tags=["bots"], route_class=SmallBody)

LARGEST_ID = 2**63 - 1


def _slug(text: str) -> str:
    if SLUG.fullmatch(text) is None:
        raise ValueError(
            "must begin with a letter or a digit (a to z, 0 to 9) and go on with those, `.`, `_` or `-`, 63 in all"
        )
    return text


Slug = Annotated[str, AfterValidator(_slug), Field(description="Your name for the bot", examples=["shop"])]
Chat = Annotated[int, Field(ge=-LARGEST_ID, le=LARGEST_ID)]


class NewBot(BaseModel):
    slug: Slug
    token: Annotated[SecretStr, Field(description="From @BotFather; checked with getMe, kept sealed, never returned")]
    warmup_chats: Annotated[
        list[Chat], Field(min_length=1, max_length=64, description="Ids of private chats the bot may post to")
    ]


@router.post("/bots", status_code=201)
async def create_bot(body: NewBot, serving: Serving) -> dict[str, object]:
    """Check the token with Telegram and keep the bot."""
    try:
        bot = await serving.bots.create(
            slug=body.slug,
            token=body.token.get_secret_value().strip(),
            warmup_chats=[ChatId(chat) for chat in dict.fromkeys(body.warmup_chats)],
        )
    except TokenRefused as error:
        raise ApiError(
            422,
            error.code,
            f"Telegram does not take this token ({error.description}): copy it again from @BotFather, whole, or have "
            "@BotFather make a new one",
        ) from None
    return {"ok": True, "bot": describe(bot)}


def describe(bot: Bot) -> dict[str, object]:
    return {
        "id": bot.id,
        "slug": bot.slug,
        "telegram_id": bot.telegram_id,
        "username": bot.username,
        "warmup_chats": list(bot.warmup_chats),
    }
