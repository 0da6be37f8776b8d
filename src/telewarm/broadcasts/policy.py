"""Interpretation of the responses for one recipient, and retries. Pure: time and random number are arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from telewarm.errors import (
    BadRequest,
    BotDeleted,
    ChatUnreachable,
    DatabaseUnavailable,
    FloodWait,
    InvalidBotToken,
    InvalidFileId,
    MediaError,
    MediaNotReady,
    NotFound,
    StoreError,
    TelegramServerError,
    TelegramUnreachable,
    TelewarmError,
    UsageError,
)
from telewarm.models import BroadcastId, ChatId, Delivery, DeliveryStatus
from telewarm.sending.send_context import SendResult
from telewarm.telegram.effect import Effect, effect_of, maybe_delivered
from telewarm.text import storable

MAX_ATTEMPTS = 8  # failed attempts, without flood waits and outages
GIVE_UP_SECONDS = 3600.0  # seconds since the first failed attempt
RETRY_MIN_SECONDS, RETRY_MAX_SECONDS = 1.0, 60.0  # seconds of exponential back-off with full jitter
FLOOD_WAIT_JITTER_SHARE = 0.05  # share of a flood wait added at random, against simultaneous retries
MAX_ERROR_CHARACTERS = 500  # characters of an error that are kept

MESSAGE_ERRORS = (MediaError, NotFound, UsageError, InvalidBotToken)  # equal for every recipient
TRANSIENT_ERRORS = (FloodWait, TelegramUnreachable, TelegramServerError, DatabaseUnavailable, StoreError, MediaNotReady)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Nothing was sent for sure, and a retry may succeed."""

    error: TelewarmError


@dataclass(frozen=True, kw_only=True, slots=True)
class Abort:
    """Nothing was sent, and nothing would be to other recipients: `error` is of the message or of the bot."""

    error: TelewarmError


SendDecision: TypeAlias = Delivery | Retry | Abort


def decide(chat_id: ChatId, results: Sequence[SendResult]) -> SendDecision:
    """Decide by the results of all messages of the set, of which there is at least one."""
    message_ids = tuple(result.message_id for result in results if result.message_id is not None)
    moved_to = results[0].moved_to
    if len(message_ids) == len(results):
        return Delivery(chat_id=chat_id, outcome=DeliveryStatus.SENT, message_ids=message_ids, moved_to=moved_to)
    errors = [result.error for result in results if result.error is not None]
    went = len(message_ids) + sum(effect_of(error) is Effect.CERTAIN for error in errors)
    if went == len(results):
        error = error_text(errors[0])
        return Delivery(
            chat_id=chat_id, outcome=DeliveryStatus.SENT, message_ids=message_ids, error=error, moved_to=moved_to
        )
    if went:
        error = error_text(errors[0])
        return Delivery(
            chat_id=chat_id, outcome=DeliveryStatus.PARTIAL, message_ids=message_ids, error=error, moved_to=moved_to
        )
    return _decide_nothing_sent(chat_id, errors, moved_to)


def _decide_nothing_sent(chat_id: ChatId, errors: Sequence[TelewarmError], moved_to: ChatId | None) -> SendDecision:
    """Decide by the worst of the errors: what may have been delivered is never sent again."""
    for error in errors:
        if maybe_delivered(error):
            return Delivery(chat_id=chat_id, outcome=DeliveryStatus.UNKNOWN, error=error_text(error), moved_to=moved_to)
    for error in errors:
        if isinstance(error, BotDeleted):  # a bot may be restored: then the broadcast continues
            return Retry(error=error)
        if isinstance(error, MESSAGE_ERRORS):
            return Abort(error=error)
    for error in errors:
        if isinstance(error, TRANSIENT_ERRORS):
            return Retry(error=error)
    outcome = DeliveryStatus.UNREACHABLE if isinstance(errors[0], ChatUnreachable) else DeliveryStatus.FAILED
    return Delivery(chat_id=chat_id, outcome=outcome, error=error_text(errors[0]), moved_to=moved_to)


def error_text(error: TelewarmError) -> str:
    """Return code and description, as a delivery stores them."""
    return storable(f"{error.code}: {error.message}")[:MAX_ERROR_CHARACTERS]


def migrated_delivery(chat_id: ChatId, moved_to: ChatId) -> Delivery:
    """Return the outcome of a group that became a supergroup, which gets the message as a recipient of its own."""
    error = "MIGRATED: the supergroup that it became is a recipient too"
    return Delivery(chat_id=chat_id, outcome=DeliveryStatus.SKIPPED, error=error, moved_to=moved_to)


def interrupted_delivery(chat_id: ChatId) -> Delivery:
    """Return the outcome of a call that was interrupted: unknown."""
    error = "INTERRUPTED: it was cut short before the answer came"
    return Delivery(chat_id=chat_id, outcome=DeliveryStatus.UNKNOWN, error=error)


def should_give_up(error: TelewarmError, *, tries: int, age: float) -> bool:
    """Return whether to give up after so many failed tries. `age`: seconds since the first, flood waits included."""
    return age >= GIVE_UP_SECONDS or (not isinstance(error, FloodWait | MediaNotReady) and tries >= MAX_ATTEMPTS)


def retry_in(error: TelewarmError, *, tries: int, dice: float) -> float:
    """Return the seconds until the next try. `dice`: in [0, 1)."""
    if isinstance(error, FloodWait | MediaNotReady):
        return error.retry_after * (1 + FLOOD_WAIT_JITTER_SHARE * dice)
    return float(min(RETRY_MAX_SECONDS, RETRY_MIN_SECONDS * 2 ** min(tries, 16)) * dice)


def pause_reason(error: TelewarmError, broadcast_id: BroadcastId) -> str:
    """Return why a broadcast is paused, and what its owner can do."""
    command = "telewarm broadcast"
    match error:
        case InvalidBotToken() if error.logged_out:
            todo = f"Resume the broadcast then: {command} resume {broadcast_id}"
        case InvalidBotToken():
            todo = f"Give the bot its current token and resume the broadcast: {command} resume {broadcast_id}"
        case BadRequest() | InvalidFileId():
            todo = (
                f"Telegram refuses the message itself. Cancel it ({command} cancel {broadcast_id}) and send a corrected"
                f" message; if some have got this one, send it to the others alone, whom"
                f" {command} results {broadcast_id} --outcome pending -o rest.csv lists. To go on all the same, and"
                f" count those it is refused for as failed: {command} resume {broadcast_id}"
            )
        case NotFound() | MediaError():
            todo = "Add the file again or rewarm it and resume, or cancel this broadcast and create another."
        case _:
            todo = "Cancel this broadcast and create another."
    return f"{error_text(error)}. {todo}"


class RateCap:
    """A broadcast's own rate cap, evenly spread, without savings."""

    MAX_SAVED_SECONDS = 0.1  # seconds of the cap that may be made up for after a delay

    def __init__(self, per_second: float | None) -> None:
        self._seconds_per_message = 0.0 if per_second is None else 1 / per_second
        self._next_at = 0.0

    def room(self, now: float, *, most: int, weight: int) -> int:
        """Return how many recipients of `weight` messages may be called now, at most `most`."""
        if not self._seconds_per_message:
            return most
        if now < self._next_at:
            return 0
        cost = self._seconds_per_message * weight
        return min(most, 1 + int(min(now - self._next_at, self.MAX_SAVED_SECONDS) / cost))

    def opens_at(self) -> float:
        """Return when the next recipient may be called."""
        return self._next_at

    def spend(self, count: int, *, now: float, weight: int) -> None:
        """Count called recipients."""
        if self._seconds_per_message:
            self._next_at = (
                max(self._next_at, now - self.MAX_SAVED_SECONDS) + count * weight * self._seconds_per_message
            )
