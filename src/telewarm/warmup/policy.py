"""When to retry a warm-up, and when to give up. Pure: the dice are an argument."""

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
MAX_SERVICE_RETRY_SECONDS = 30.0  # seconds at most between two looks whether a service is back

PERMANENT_ERRORS = (BadRequest, MediaError, ObjectMissing, ObjectCorrupt)
BOT_ERRORS = (InvalidBotToken, ChatUnreachable, ChatMigrated)  # no fault of the item: it waits until the bot is mended


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryLimits:
    """`limit`: attempts before an item is in error. `base_seconds`, `max_seconds`: seconds of the exponential back-off.

    `weak_id_attempts`: uploads again when Telegram returned a weak id.
    """

    limit: int
    base_seconds: float
    max_seconds: float
    weak_id_attempts: int = 0


def retry_in(error: TelewarmError, attempts: int, retries: RetryLimits, dice: float) -> float | None:
    """Seconds until the next attempt, None to give up. `attempts` have failed before; `dice` is in [0, 1).

    Full jitter: anywhere between nothing and base · 2^attempts, at most `longest`. A service that is away is waited
    for as long as it takes.
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
    """Whether nothing was tried at all: no store to read the file from, or no Telegram to send it to."""
    return isinstance(error, StoreUnavailable) or (isinstance(error, TelegramUnreachable) and not error.effect_possible)


def counts_as_attempt(error: TelewarmError) -> bool:
    """Whether a failure is one of the attempts that the item has."""
    return not isinstance(error, BOT_ERRORS)


def is_weak(file_unique_id: str | None) -> bool:
    """An id that may not last, seen on overloaded servers: no unique id, or one that is too short to be whole."""
    return file_unique_id is None or len(file_unique_id) <= MIN_UNIQUE_ID_CHARACTERS


def cure(error: TelewarmError, *, again: bool) -> str:
    """What the owner can do about it, in one sentence. `again`: it is tried again by itself."""
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
