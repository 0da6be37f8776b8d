"""Chat names: `@channel` is resolved once and cached for an hour."""

from __future__ import annotations

import re
from typing import TypeAlias

from telewarm import clock, coercion
from telewarm.errors import ChatUnreachable, NoSuchBot, UsageError
from telewarm.models import ChatId
from telewarm.telegram.client import BotApi

ChatNameCache: TypeAlias = dict[str, tuple[ChatId, float]]  # with the time until which each is valid

SLUG_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
NAME_PATTERN = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}")
CHAT_ID_PATTERN = re.compile(r"-?[0-9]{1,19}")
NAME_TTL_SECONDS = 3600.0  # seconds
MAX_NAMES = 10_000  # cached names of one bot


def check_slug(given: object) -> str:
    """Check the slug of a new bot. Raises UsageError."""
    slug = coercion.required("slug", given)
    if SLUG_PATTERN.fullmatch(slug) is None:
        raise UsageError(
            f"slug must be 1 to 63 letters, digits, dots, hyphens and underscores, not {coercion.describe_value(slug)}"
        )
    return slug


def known_slug(given: object, *, argument: str = "slug") -> str:
    """Check the slug of an existing bot. Raises UsageError, and NotFound for one that no bot can have."""
    slug = coercion.required(argument, given)
    if SLUG_PATTERN.fullmatch(slug) is None:
        raise NoSuchBot(slug)
    return slug


async def resolve_chat(api: BotApi, names: ChatNameCache, given: int | str, *, argument: str = "chat_id") -> ChatId:
    """Return the id of a chat given by id or `@name`; `names`: the cache. Raises UsageError, TelegramError.

    Telegram resolves the names of public channels and groups for bots, and not those of people.
    """
    if not isinstance(given, str):
        chat_id = coercion.integer(argument, given, minimum=-coercion.MAX_BIGINT)
        if chat_id == 0:
            raise UsageError(f"{argument} is 0, which is no chat")
        return ChatId(chat_id)
    if CHAT_ID_PATTERN.fullmatch(given.strip()):
        return await resolve_chat(api, names, int(given), argument=argument)
    if NAME_PATTERN.fullmatch(given) is None:
        raise UsageError(f"{argument} must be a chat id, or @name of a public channel or group, not {given[:40]!r}")
    name = given.lower()
    known = names.get(name)
    if known is None or clock.monotonic() >= known[1]:
        known = (await _look_up_chat(api, name), clock.monotonic() + NAME_TTL_SECONDS)
        if len(names) >= MAX_NAMES:
            names.clear()
        names[name] = known
    return known[0]


async def _look_up_chat(api: BotApi, name: str) -> ChatId:
    try:
        return (await api.get_chat(name)).chat_id
    except ChatUnreachable as error:
        if error.reason != "not_found":
            raise
        raise UsageError(
            f"Telegram knows no public channel or group {name}; people have to be given by their numeric id"
        ) from None
