"""Whether a failed call may have had its effect. The one rule of sends, broadcasts and warm-ups. Pure."""

from __future__ import annotations

import re
from enum import Enum, auto

from telewarm.errors import FloodWait, TelegramClientError, TelegramServerError, TelegramUnreachable, TelewarmError

HARMLESS_METHODS = re.compile(r"get|delete|set", re.IGNORECASE)  # how methods begin that put no message into a chat
# A message that went, and that a moderator bot removed before the server could return it.
IMMEDIATELY_DELETED_PATTERN = re.compile(r"immediately deleted", re.IGNORECASE)
# What a Bot API server says in a 5xx before it hands a message on, and never after.
UNKNOWN_METHOD_PATTERN = re.compile(r"\bmethod (is )?not (found|implemented)\b|\bnot implemented\b", re.IGNORECASE)


class Effect(Enum):
    """Of a failed call: nothing went; nobody knows; the message went all the same."""

    NONE = auto()
    POSSIBLE = auto()
    CERTAIN = auto()


def effect_of(error: TelewarmError) -> Effect:
    """A 5xx proves nothing: a server that closes says so of messages that it has sent (telegram-facts, section 8)."""
    match error:
        case TelegramUnreachable():
            return Effect.POSSIBLE if error.effect_possible else Effect.NONE
        case TelegramClientError() if HARMLESS_METHODS.match(error.method) or isinstance(error, FloodWait):
            return Effect.NONE
        case TelegramServerError():
            return _effect_of_server_error(error)
        case TelegramClientError() if error.status < 300:  # a success whose answer is not what was asked for
            return Effect.CERTAIN
        case _:
            return Effect.NONE


def maybe_delivered(error: TelewarmError) -> bool:
    """Whether to send it again could give the recipient two."""
    return effect_of(error) is not Effect.NONE


def _effect_of_server_error(error: TelegramServerError) -> Effect:
    if IMMEDIATELY_DELETED_PATTERN.search(error.description):
        return Effect.CERTAIN
    if error.status < 500 or UNKNOWN_METHOD_PATTERN.search(error.description):
        return Effect.NONE
    return Effect.POSSIBLE
