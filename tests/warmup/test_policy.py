"""What goes first, when to try again, when to give up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.errors import (
    BadRequest,
    ChatUnreachable,
    ObjectMissing,
    StoreUnavailable,
    TelegramFault,
    TelegramUnreachable,
    TelewarmError,
    TokenRefused,
    UnreadableMedia,
)
from telewarm.warmup import Retries, policy

RETRIES = Retries(limit=8, base=0.5, longest=300)
FAULT = TelegramFault(method="sendPhoto", status=500, description="Internal Server Error")
UNREACHABLE = TelegramUnreachable("no answer", method="sendPhoto", effect_possible=True)
BAD = BadRequest(method="sendPhoto", status=400, description="Bad Request: PHOTO_INVALID_DIMENSIONS")
NO_TOKEN = TokenRefused(method="sendPhoto", status=401, description="Unauthorized")
NO_CHAT = ChatUnreachable(method="sendPhoto", status=403, description="Forbidden", reason="kicked")

dice = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(st.integers(0, 6), dice)
def test_a_fault_is_tried_again_within_a_back_off_that_doubles(attempts: int, throw: float) -> None:
    delay = policy.retry_in(FAULT, attempts, RETRIES, throw)

    assert delay is not None
    assert 0 <= delay <= min(300, 0.5 * 2**attempts)


@given(st.integers(0, 10**9), dice)
def test_no_back_off_is_longer_than_the_longest(attempts: int, throw: float) -> None:
    delay = policy.retry_in(UNREACHABLE, attempts, Retries(limit=10**10, base=0.5, longest=3), throw)

    assert delay is not None
    assert delay < 3


@pytest.mark.parametrize("error", [FAULT, UNREACHABLE, StoreUnavailable("away"), TelewarmError("a bug")])
def test_the_last_attempt_is_the_limit(error: TelewarmError) -> None:
    assert policy.retry_in(error, 6, RETRIES, 0.5) is not None
    assert policy.retry_in(error, 7, RETRIES, 0.5) is None


@pytest.mark.parametrize("error", [BAD, UnreadableMedia("x"), ObjectMissing("x")])
def test_what_cannot_get_better_is_given_up_at_once(error: TelewarmError) -> None:
    assert policy.retry_in(error, 0, RETRIES, 0.5) is None


@pytest.mark.parametrize("error", [NO_TOKEN, NO_CHAT])
@given(attempts=st.integers(0, 10**6))
def test_a_fault_of_the_bot_burns_no_item_however_long_it_lasts(error: TelewarmError, attempts: int) -> None:
    assert policy.retry_in(error, attempts, RETRIES, 0.5) == 300
    assert not policy.counts(error)


def test_other_failures_are_attempts() -> None:
    assert policy.counts(FAULT)
    assert policy.counts(BAD)


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_small_goes_before_large_and_all_after_what_was_asked_for_by_name(one: int, other: int) -> None:
    small, large = sorted((one, other))

    assert policy.EXPLICIT < policy.priority(small) <= policy.priority(large)


@pytest.mark.parametrize(
    ("file_unique_id", "weak"), [(None, True), ("", True), ("A" * 10, True), ("AQADAgATqRsAAwI", False)]
)
def test_an_id_is_weak_when_it_is_missing_or_too_short(file_unique_id: str | None, weak: bool) -> None:  # noqa: FBT001 - a table's column
    assert policy.is_weak(file_unique_id) is weak


@pytest.mark.parametrize("error", [BAD, NO_TOKEN, NO_CHAT, ObjectMissing("x"), FAULT])
def test_every_error_has_a_cure_in_one_sentence(error: TelewarmError) -> None:
    cure = policy.cure(error)

    assert cure.endswith(".")
    assert cure.count(".") == 1
