"""Effect of a failed call: whether the message may have been delivered. One rule for all senders. Pure."""

from __future__ import annotations

import re
from enum import Enum, auto

from telewarm.errors import FloodWait, TelegramClientError, TelegramServerError, TelegramUnreachable, TelewarmError

HARMLESS_METHODS = re.compile(r"get|delete|set", re.IGNORECASE)  # prefixes of methods that put no message into a chat
# The message was sent, and a moderator bot removed it before the server could return it.
IMMEDIATELY_DELETED_PATTERN = re.compile(r"immediately deleted", re.IGNORECASE)
# What a Bot API server says in a 5xx before it passes a message on, and never after.
UNKNOWN_METHOD_PATTERN = re.compile(r"\bmethod (is )?not (found|implemented)\b|\bnot implemented\b", re.IGNORECASE)


class Effect(Enum):
    """Effect of a failed call: nothing was sent; unknown; the message was sent."""

    NONE = auto()
    POSSIBLE = auto()
    CERTAIN = auto()


def effect_of(error: TelewarmError) -> Effect:
    """Return the effect of a failed call. A 5xx proves nothing: closing servers return it for sent messages."""
    match error:
        case TelegramUnreachable():
            return Effect.POSSIBLE if error.effect_possible else Effect.NONE
        case TelegramClientError() if HARMLESS_METHODS.match(error.method) or isinstance(error, FloodWait):
            return Effect.NONE
        case TelegramServerError():
            return _effect_of_server_error(error)
        case TelegramClientError() if error.status < 300:  # a success with an unexpected result
            return Effect.CERTAIN
        case _:
            return Effect.NONE


def maybe_delivered(error: TelewarmError) -> bool:
    """Return whether a retry could deliver the message twice."""
    return effect_of(error) is not Effect.NONE


def _effect_of_server_error(error: TelegramServerError) -> Effect:
    if IMMEDIATELY_DELETED_PATTERN.search(error.description):
        return Effect.CERTAIN
    if error.status < 500 or UNKNOWN_METHOD_PATTERN.search(error.description):
        return Effect.NONE
    return Effect.POSSIBLE
