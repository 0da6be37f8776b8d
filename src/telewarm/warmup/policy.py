"""Retry policy of warm-ups. Pure: the random number is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from telewarm.bots.health_check import CURES
from telewarm.errors import (
    BadRequest,
    ChatMigrated,
    ChatUnreachable,
    InvalidBotToken,
    MediaError,
    ObjectCorrupt,
    ObjectMissing,
    StoreUnavailable,
    TelegramUnreachable,
    TelewarmError,
)

ADMINISTRATOR_CURE = "make the bot an administrator of it, or name another chat"
MIN_UNIQUE_ID_CHARACTERS = 10  # characters
MAX_SERVICE_RETRY_SECONDS = 30.0  # maximum seconds between two attempts while a service is unavailable

PERMANENT_ERRORS = (BadRequest, MediaError, ObjectMissing, ObjectCorrupt)
BOT_ERRORS = (InvalidBotToken, ChatUnreachable, ChatMigrated)  # not the item's fault: wait until it is repaired


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryLimits:
    """`limit`: attempts before an item is in error. `base_seconds`, `max_seconds`: of the exponential back-off.

    `weak_id_attempts`: further uploads when Telegram returned a weak id.
    """

    limit: int
    base_seconds: float
    max_seconds: float
    weak_id_attempts: int = 0


def retry_in(error: TelewarmError, attempts: int, retries: RetryLimits, dice: float) -> float | None:
    """Return the seconds until the next attempt, None to give up.

    `attempts`: failed ones so far; `dice`: in [0, 1). Full jitter: anything between 0 and base · 2^attempts, at most
    `max_seconds`. For an unavailable service there is no last attempt.
    """
    if isinstance(error, BOT_ERRORS):
        return retries.max_seconds
    longest = (
        min(retries.max_seconds, MAX_SERVICE_RETRY_SECONDS) if is_service_unavailable(error) else retries.max_seconds
    )
    if isinstance(error, PERMANENT_ERRORS) or (attempts + 1 >= retries.limit and not is_service_unavailable(error)):
        return None
    return float(min(longest, retries.base_seconds * 2 ** min(attempts, 32)) * dice)


def is_service_unavailable(error: TelewarmError) -> bool:
    """Return whether nothing was attempted: no store to read the file from, or no Telegram to send it to."""
    return isinstance(error, StoreUnavailable) or (isinstance(error, TelegramUnreachable) and not error.effect_possible)


def counts_as_attempt(error: TelewarmError) -> bool:
    """Return whether a failure counts as one of the item's attempts."""
    return not isinstance(error, BOT_ERRORS)


def is_weak(file_unique_id: str | None) -> bool:
    """Return whether an id may not last, as seen on overloaded servers: its unique id is missing or too short."""
    return file_unique_id is None or len(file_unique_id) <= MIN_UNIQUE_ID_CHARACTERS


def cure(error: TelewarmError, *, again: bool) -> str:
    """Return the owner's remedy in one sentence. `again`: there will be another attempt."""
    match error:
        case InvalidBotToken():
            return error.cure
        case ChatMigrated():
            return f"The warm-up group became the supergroup {error.migrate_to_chat_id}, which is used from now on."
        case ChatUnreachable():
            return f"The warm-up chat is at fault, not the file: {CURES.get(error.reason, ADMINISTRATOR_CURE)}."
        case ObjectMissing() | ObjectCorrupt():
            return "Add the file again."
        case BadRequest() | MediaError():
            return "Check that Telegram accepts this file as this kind, or add it as a document."
        case _ if again:
            return "It is tried again by itself; rewarm it to try at once."
        case _:
            return "It is not tried again by itself: rewarm it once the reason is gone."
