"""What the answers to a recipient's messages mean, and when to try again. Pure: time and dice are arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from telewarm.errors import (
    BadRequest,
    BotDeleted,
    ChatUnreachable,
    DatabaseUnavailable,
    DeadFileId,
    FloodWait,
    MediaError,
    MediaNotReady,
    NotFound,
    StoreError,
    TelegramFault,
    TelegramUnreachable,
    TelewarmError,
    TokenRefused,
    UsageError,
)
from telewarm.model import BroadcastId, ChatId, Delivery, Outcome
from telewarm.sender import SendResult
from telewarm.telegram import Effect, effect_of, may_have_gone
from telewarm.text import storable

TRIES = 8  # failed ones, not counting flood waits and outages
GIVE_UP = 3600.0  # seconds since the first that did not go
FIRST, LONGEST = 1.0, 60.0  # seconds of the back-off, doubling, with full jitter
FLOOD_JITTER = 0.05  # share of a flood wait: those who wait for the same do not all come back at once
WORDS = 500  # characters of an error that are kept

OF_THE_MESSAGE = (MediaError, NotFound, UsageError, TokenRefused)  # the same for every recipient
PASSING = (FloodWait, TelegramUnreachable, TelegramFault, DatabaseUnavailable, StoreError, MediaNotReady)


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """Nothing went, for sure, and it may go another time."""

    error: TelewarmError


@dataclass(frozen=True, kw_only=True, slots=True)
class Halt:
    """Nothing went, and nothing would to anybody else: `error` is of the message or of the bot."""

    error: TelewarmError


Verdict: TypeAlias = Delivery | Again | Halt


def judge(chat_id: ChatId, results: Sequence[SendResult]) -> Verdict:
    """`results`: of every message of the set, one at least."""
    message_ids = tuple(result.message_id for result in results if result.message_id is not None)
    moved_to = results[0].moved_to
    if len(message_ids) == len(results):
        return Delivery(chat_id=chat_id, outcome=Outcome.SENT, message_ids=message_ids, moved_to=moved_to)
    errors = [result.error for result in results if result.error is not None]
    went = len(message_ids) + sum(effect_of(error) is Effect.CERTAIN for error in errors)
    if went == len(results):
        error = words(errors[0])
        return Delivery(chat_id=chat_id, outcome=Outcome.SENT, message_ids=message_ids, error=error, moved_to=moved_to)
    if went:
        error = words(errors[0])
        return Delivery(
            chat_id=chat_id, outcome=Outcome.PARTIAL, message_ids=message_ids, error=error, moved_to=moved_to
        )
    return _nothing_went(chat_id, errors, moved_to)


def _nothing_went(chat_id: ChatId, errors: Sequence[TelewarmError], moved_to: ChatId | None) -> Verdict:
    """The worst of the errors decides: what may have gone all the same is never sent again."""
    for error in errors:
        if may_have_gone(error):
            return Delivery(chat_id=chat_id, outcome=Outcome.UNKNOWN, error=words(error), moved_to=moved_to)
    for error in errors:
        if isinstance(error, BotDeleted):  # it may be brought back: then the broadcast goes on
            return Again(error=error)
        if isinstance(error, OF_THE_MESSAGE):
            return Halt(error=error)
    for error in errors:
        if isinstance(error, PASSING):
            return Again(error=error)
    outcome = Outcome.UNREACHABLE if isinstance(errors[0], ChatUnreachable) else Outcome.FAILED
    return Delivery(chat_id=chat_id, outcome=outcome, error=words(errors[0]), moved_to=moved_to)


def words(error: TelewarmError) -> str:
    """Code and words, as a delivery keeps them."""
    return storable(f"{error.code}: {error.message}")[:WORDS]


def moved(chat_id: ChatId, moved_to: ChatId) -> Delivery:
    """The group became a supergroup that gets the message as a recipient of its own."""
    error = "MIGRATED: the supergroup that it became is a recipient too"
    return Delivery(chat_id=chat_id, outcome=Outcome.SKIPPED, error=error, moved_to=moved_to)


def interrupted(chat_id: ChatId) -> Delivery:
    """Its call was cut short, whatever it had done."""
    error = "INTERRUPTED: it was cut short before the answer came"
    return Delivery(chat_id=chat_id, outcome=Outcome.UNKNOWN, error=error)


def gives_up(error: TelewarmError, *, tries: int, age: float) -> bool:
    """After so many failed tries, the last one included. `age`: seconds since the first, flood waits included."""
    return age >= GIVE_UP or (not isinstance(error, FloodWait | MediaNotReady) and tries >= TRIES)


def retry_in(error: TelewarmError, *, tries: int, dice: float) -> float:
    """Seconds until the next try. `dice` is in [0, 1)."""
    if isinstance(error, FloodWait | MediaNotReady):
        return error.retry_after * (1 + FLOOD_JITTER * dice)
    return float(min(LONGEST, FIRST * 2 ** min(tries, 16)) * dice)


def cure(error: TelewarmError, broadcast_id: BroadcastId) -> str:
    """Why a broadcast is paused, and what its owner can do."""
    command = "telewarm broadcast"
    match error:
        case TokenRefused() if error.logged_out:
            todo = f"Resume the broadcast then: {command} resume {broadcast_id}"
        case TokenRefused():
            todo = f"Give the bot its current token and resume the broadcast: {command} resume {broadcast_id}"
        case BadRequest() | DeadFileId():
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
    return f"{words(error)}. {todo}"


class Pace:
    """A broadcast's own cap, as evenly as it can be kept. Nothing is saved up."""

    SAVED = 0.1  # seconds of the cap that may go at once after a delay

    def __init__(self, per_second: float | None) -> None:
        self._each = 0.0 if per_second is None else 1 / per_second
        self._next_at = 0.0

    def room(self, now: float, *, most: int, weight: int) -> int:
        """How many recipients of `weight` messages each may go now, at most `most`."""
        if not self._each:
            return most
        if now < self._next_at:
            return 0
        cost = self._each * weight
        return min(most, 1 + int(min(now - self._next_at, self.SAVED) / cost))

    def opens_at(self) -> float:
        return self._next_at

    def spend(self, count: int, *, now: float, weight: int) -> None:
        if self._each:
            self._next_at = max(self._next_at, now - self.SAVED) + count * weight * self._each
