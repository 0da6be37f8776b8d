"""Chats by name: `@channel` is asked for once and then known for an hour."""

from __future__ import annotations

import re
from typing import TypeAlias

from telewarm import clock, coercion
from telewarm.errors import ChatUnreachable, UsageError
from telewarm.model import ChatId
from telewarm.telegram import BotApi

Names: TypeAlias = dict[str, tuple[ChatId, float]]  # and until when each is believed

NAME = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}")
NUMBER = re.compile(r"-?[0-9]{1,19}")
REMEMBERED = 3600.0  # seconds
MOST = 10_000  # names kept of one bot


async def chat_of(api: BotApi, names: Names, given: int | str, *, argument: str = "chat_id") -> ChatId:
    """The id of a chat that is given as its id or as `@name`; `names`: those that are known. Raises UsageError,
    TelegramError.

    Telegram resolves the names of public channels and groups for bots, and those of no people.
    """
    if not isinstance(given, str):
        chat_id = coercion.whole(argument, given, least=-coercion.LARGEST)
        if chat_id == 0:
            raise UsageError(f"{argument} is 0, which is no chat")
        return ChatId(chat_id)
    if NUMBER.fullmatch(given.strip()):
        return await chat_of(api, names, int(given), argument=argument)
    if NAME.fullmatch(given) is None:
        raise UsageError(f"{argument} must be a chat id, or @name of a public channel or group, not {given[:40]!r}")
    name = given.lower()
    known = names.get(name)
    if known is None or clock.monotonic() >= known[1]:
        known = (await _ask(api, name), clock.monotonic() + REMEMBERED)
        if len(names) >= MOST:
            names.clear()
        names[name] = known
    return known[0]


async def _ask(api: BotApi, name: str) -> ChatId:
    try:
        return (await api.get_chat(name)).chat_id
    except ChatUnreachable as error:
        if error.reason != "not_found":
            raise
        raise UsageError(
            f"Telegram knows no public channel or group {name}; people have to be given by their numeric id"
        ) from None
