"""When to try again, when to give up, and what to say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.errors import (
    BadRequest,
    ChatMigrated,
    ChatUnreachable,
    DatabaseUnavailable,
    FloodWait,
    InvalidBotToken,
    InvalidFileId,
    MediaError,
    MediaRuleViolation,
    MessageNotFound,
    ObjectCorrupt,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
    TelegramClientError,
    TelegramError,
    TelegramServerError,
    TelegramUnreachable,
    TelewarmError,
    UnreadableMedia,
)
from telewarm.warmup import policy
from telewarm.warmup.policy import RetryLimits

RETRIES = RetryLimits(limit=8, base_seconds=0.5, max_seconds=300)
FAULT = TelegramServerError(method="sendPhoto", status=500, description="Internal Server Error")
UNREACHABLE = TelegramUnreachable("no answer", method="sendPhoto", effect_possible=True)
CUT_OFF = TelegramUnreachable("no connection", method="sendPhoto", effect_possible=False)
BAD = BadRequest(method="sendPhoto", status=400, description="Bad Request: PHOTO_INVALID_DIMENSIONS")
NO_TOKEN = InvalidBotToken(method="sendPhoto", status=401, description="Unauthorized")
NO_CHAT = ChatUnreachable(method="sendPhoto", status=403, description="Forbidden", reason="kicked")

dice = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(st.integers(0, 6), dice)
def test_a_fault_is_tried_again_within_a_back_off_that_doubles(attempts: int, throw: float) -> None:
    delay = policy.retry_in(FAULT, attempts, RETRIES, throw)

    assert delay is not None
    assert 0 <= delay <= min(300, 0.5 * 2**attempts)


@given(st.integers(0, 10**9), dice)
def test_no_back_off_is_longer_than_the_longest(attempts: int, throw: float) -> None:
    delay = policy.retry_in(UNREACHABLE, attempts, RetryLimits(limit=10**10, base_seconds=0.5, max_seconds=3), throw)

    assert delay is not None
    assert delay < 3


@pytest.mark.parametrize("error", [FAULT, UNREACHABLE, TelewarmError("a bug")])
def test_the_last_attempt_is_the_limit(error: TelewarmError) -> None:
    assert policy.retry_in(error, 6, RETRIES, 0.5) is not None
    assert policy.retry_in(error, 7, RETRIES, 0.5) is None


@pytest.mark.parametrize("error", [CUT_OFF, StoreUnavailable("away")])
@given(attempts=st.integers(7, 10**6))
def test_an_outage_burns_no_item_however_long_it_lasts(error: TelewarmError, attempts: int) -> None:
    delay = policy.retry_in(error, attempts, RETRIES, 0.5)

    assert delay is not None
    assert delay <= 30


@pytest.mark.parametrize("error", [BAD, UnreadableMedia("x"), ObjectMissing("x")])
def test_what_cannot_get_better_is_given_up_at_once(error: TelewarmError) -> None:
    assert policy.retry_in(error, 0, RETRIES, 0.5) is None


@pytest.mark.parametrize("error", [NO_TOKEN, NO_CHAT])
@given(attempts=st.integers(0, 10**6))
def test_a_fault_of_the_bot_burns_no_item_however_long_it_lasts(error: TelewarmError, attempts: int) -> None:
    assert policy.retry_in(error, attempts, RETRIES, 0.5) == 300
    assert not policy.counts_as_attempt(error)


def test_other_failures_are_attempts() -> None:
    assert policy.counts_as_attempt(FAULT)
    assert policy.counts_as_attempt(BAD)


@pytest.mark.parametrize(
    ("file_unique_id", "weak"), [(None, True), ("", True), ("A" * 10, True), ("AQADAgATqRsAAwI", False)]
)
def test_an_id_is_weak_when_it_is_missing_or_too_short(file_unique_id: str | None, weak: bool) -> None:  # noqa: FBT001 - a table's column
    assert policy.is_weak(file_unique_id) is weak


def telegram(kind: type[TelegramClientError], **facts: Any) -> TelegramClientError:  # noqa: ANN401 - each class has its own
    return kind(method="sendPhoto", status=400, description="Bad Request: words", **facts)


AGAIN, NEVER, OF_THE_BOT = "tried again", "given up at once", "waits for the bot"
CLASSES: dict[TelewarmError, str] = {
    StoreUnavailable("away"): AGAIN,
    DatabaseUnavailable("away"): AGAIN,
    TelewarmError("a bug"): AGAIN,
    UNREACHABLE: AGAIN,
    FAULT: AGAIN,
    telegram(InvalidFileId): AGAIN,
    telegram(MessageNotFound): AGAIN,
    BAD: NEVER,
    UnreadableMedia("no JPEG"): NEVER,
    MediaRuleViolation(rule="small", measured="large", cure="Shrink it."): NEVER,
    ObjectMissing("gone"): NEVER,
    ObjectCorrupt("other bytes"): NEVER,
    NO_TOKEN: OF_THE_BOT,
    NO_CHAT: OF_THE_BOT,
    telegram(ChatMigrated, migrate_to_chat_id=-100): OF_THE_BOT,
}


@pytest.mark.parametrize(("error", "what"), CLASSES.items(), ids=[type(error).__name__ for error in CLASSES])
def test_each_error_is_classed_and_has_its_cure_in_one_sentence(error: TelewarmError, what: str) -> None:
    delay = policy.retry_in(error, 0, RETRIES, 0.5)

    assert {AGAIN: delay == 0.25, NEVER: delay is None, OF_THE_BOT: delay == 300}[what]
    assert policy.counts_as_attempt(error) is (what != OF_THE_BOT)
    for again in (False, True):
        cure = policy.cure(error, again=again)
        assert cure.endswith(".")
        assert cure.count(".") == 1
        assert ("by itself" in cure) is (what == AGAIN)


def test_every_error_that_a_warm_up_can_meet_is_in_the_table() -> None:
    """A flood wait goes back to the lane, and the rest of the tree is for people."""
    kinds = {kind for root in (MediaError, StoreError, TelegramError) for kind in leaves(root)} - {FloodWait}

    assert kinds <= {type(error) for error in CLASSES}


def leaves(kind: type[TelewarmError]) -> Iterator[type[TelewarmError]]:
    below = kind.__subclasses__()
    for child in below:
        yield from leaves(child)
    if not below:
        yield kind


def test_what_was_tried_to_the_limit_is_not_said_to_be_tried_again() -> None:
    assert "rewarm" in policy.cure(FAULT, again=False)
    assert "not tried again" in policy.cure(FAULT, again=False)
    assert policy.cure(FAULT, again=False) != policy.cure(FAULT, again=True)
