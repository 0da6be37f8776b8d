"""What answers mean for a recipient, when it is tried again, and how flights share the bot's limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.broadcasts import policy
from telewarm.broadcasts.policy import Abort, RateCap, Retry
from telewarm.broadcasts.retry_queue import MAX_WAITING, RetryQueue
from telewarm.errors import (
    BadRequest,
    BotDeleted,
    ChatUnreachable,
    DatabaseUnavailable,
    FloodWait,
    InvalidBotToken,
    MediaError,
    MediaNotReady,
    NotFound,
    StoreUnavailable,
    TelegramServerError,
    TelegramUnreachable,
    TelewarmError,
)
from telewarm.flood_control.fair_share import MAX_LEAD_MESSAGES, FairShareAllocator, Participant
from telewarm.flood_control.limiter import BotRateLimiter
from telewarm.flood_control.limits import BotLimits, RateLimit
from telewarm.flood_control.priority import Priority
from telewarm.models import BroadcastId, ChatId, Delivery, DeliveryStatus, MediaId, MessageId
from telewarm.sending.send_context import SendResult

CHAT = ChatId(7)
FLOOD = FloodWait(method="send", status=429, description="later", retry_after=9)
NOT_SENT = TelegramUnreachable("no connection", method="send", effect_possible=False)
PERHAPS = TelegramUnreachable("no answer", method="send", effect_possible=True)
BLOCKED = ChatUnreachable(method="send", status=403, description="Forbidden: so", reason="blocked")
REFUSED = BadRequest(method="send", status=400, description="Bad Request: no")
TOKEN = InvalidBotToken(method="send", status=401, description="Unauthorized")


def fault(status: int) -> TelegramServerError:
    return TelegramServerError(method="send", status=status, description="Internal Server Error")


DELETED_AT_ONCE = TelegramServerError(
    method="sendMessage",
    status=500,
    description="Internal Server Error: sent message was immediately deleted and can't be returned",
)


def result(error: TelewarmError | None = None, *, moved_to: ChatId | None = None) -> SendResult:
    return SendResult(
        media_id=MediaId(1),
        kind=None,
        message_id=MessageId(5) if error is None else None,
        cache_hit=True,
        lat_ms=1.0,
        error=error,
        moved_to=moved_to,
    )


def outcome_of(*errors: TelewarmError | None) -> DeliveryStatus | type:
    verdict = policy.decide(CHAT, [result(error) for error in errors])
    if isinstance(verdict, Delivery):
        assert verdict.outcome is not None
        return verdict.outcome
    return type(verdict)


def test_a_set_that_went_is_sent_with_all_its_messages() -> None:
    verdict = policy.decide(CHAT, [result(moved_to=ChatId(-8)), result(moved_to=ChatId(-8))])
    assert verdict == Delivery(
        chat_id=CHAT, outcome=DeliveryStatus.SENT, message_ids=(MessageId(5), MessageId(5)), moved_to=ChatId(-8)
    )


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (BLOCKED, DeliveryStatus.UNREACHABLE),
        (REFUSED, DeliveryStatus.FAILED),
        (PERHAPS, DeliveryStatus.UNKNOWN),
        (fault(502), DeliveryStatus.UNKNOWN),  # whoever stands behind the gateway may have sent it
        (fault(504), DeliveryStatus.UNKNOWN),
        (fault(500), DeliveryStatus.UNKNOWN),
        (fault(503), DeliveryStatus.UNKNOWN),
        (fault(403), Retry),  # a page of something in front of the server
        (DELETED_AT_ONCE, DeliveryStatus.SENT),
        (FLOOD, Retry),
        (NOT_SENT, Retry),
        (MediaNotReady("no id", retry_after=1), Retry),
        (StoreUnavailable("no store"), Retry),
        (DatabaseUnavailable("no database"), Retry),
        (TOKEN, Abort),
        (NotFound("no such media"), Abort),
        (BotDeleted("shop"), Retry),  # it may be brought back
        (MediaError("no photo"), Abort),
    ],
)
def test_what_one_error_means(error: TelewarmError, meant: DeliveryStatus | type) -> None:
    assert outcome_of(error) == meant


@pytest.mark.parametrize("error", [BLOCKED, REFUSED, PERHAPS, FLOOD, NOT_SENT, TOKEN, fault(500)])
def test_what_went_in_part_is_never_sent_again(error: TelewarmError) -> None:
    assert outcome_of(None, error) == outcome_of(error, None) == DeliveryStatus.PARTIAL


@pytest.mark.parametrize("other", [BLOCKED, REFUSED, FLOOD, NOT_SENT, TOKEN, fault(403)])
def test_a_set_of_which_one_message_may_have_gone_is_unknown(other: TelewarmError) -> None:
    assert outcome_of(other, PERHAPS) == outcome_of(PERHAPS, other) == DeliveryStatus.UNKNOWN


def test_the_words_of_an_error_are_short_and_fit_for_the_database() -> None:
    words = policy.error_text(NotFound("a\0b" * 1000))
    assert words.startswith("NOT_FOUND: a\N{REPLACEMENT CHARACTER}b")
    assert len(words) == policy.MAX_ERROR_CHARACTERS


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_a_failure_is_tried_again_within_bounds_and_a_flood_never_too_early(tries: int, dice: float) -> None:
    assert 0 <= policy.retry_in(fault(500), tries=tries, dice=dice) <= policy.RETRY_MAX_SECONDS
    assert 9 <= policy.retry_in(FLOOD, tries=tries, dice=dice) < 10


def test_after_some_tries_it_is_given_up_and_a_flood_after_an_hour() -> None:
    assert not policy.should_give_up(fault(500), tries=policy.MAX_ATTEMPTS - 1, age=10)
    assert policy.should_give_up(fault(500), tries=policy.MAX_ATTEMPTS, age=10)
    assert not policy.should_give_up(FLOOD, tries=1000, age=10)
    assert policy.should_give_up(FLOOD, tries=2, age=policy.GIVE_UP_SECONDS)


def test_who_waits_is_taken_when_due_the_first_first() -> None:
    later = RetryQueue([ChatId(1)])
    later.add(ChatId(3), due_at=30)
    later.add(ChatId(2), due_at=20)
    assert later.take(5, now=10) == [1]
    assert (later.due_at, sorted(later.chat_ids())) == (20, [2, 3])
    assert later.take(1, now=40) == [2]
    assert later.take(5, now=40) == [3]
    assert later.due_at == math.inf


def test_what_was_tried_is_remembered_until_its_outcome() -> None:
    later = RetryQueue([])
    later.attempt_of(CHAT, now=1).failures = 3
    assert later.attempt_of(CHAT, now=2).failures == 3
    later.forget(CHAT)
    assert later.attempt_of(CHAT, now=3).failures == 0


def test_above_a_bound_nobody_new_is_called() -> None:
    later = RetryQueue(map(ChatId, range(MAX_WAITING - 1)))
    assert not later.is_full
    later.add(CHAT, due_at=1)
    assert later.is_full


@given(st.floats(0.5, 500), st.integers(1, 5), st.lists(st.floats(0.001, 0.3), min_size=20, max_size=60))
def test_a_cap_is_kept_over_any_time_and_whoever_asks_when_it_opens_may_go(
    per_second: float, weight: int, steps: list[float]
) -> None:
    pace, now, went = RateCap(per_second), 100.0, 0
    for step in steps:
        count = pace.room(now, most=1000, weight=weight)
        pace.spend(count, now=now, weight=weight)
        went += count * weight
        allowed = (now - 100.0 + RateCap.MAX_SAVED_SECONDS) * per_second + 2 * weight
        assert went <= allowed
        now = max(now + step, pace.opens_at() if count == 0 else 0)
    now = max(now, pace.opens_at())
    assert pace.room(now, most=1000, weight=weight) >= 1


Join = Callable[..., Participant]


@pytest.fixture
def join() -> Iterator[Join]:
    """Flights join with it, until the test ends."""
    with ExitStack() as stack:

        def joined(shares: FairShareAllocator, *, woken: list[int] | None = None) -> Participant:
            reported = woken if woken is not None else []
            return stack.enter_context(shares.joined(weight=1, unspent=lambda: 0, wake=lambda: reported.append(1)))

        yield joined


def full(per_second: int) -> BotRateLimiter:
    """A bot that has just had all of a window."""
    limiter = BotRateLimiter(BotLimits(bot=RateLimit(rate=per_second, burst=per_second), private_chat=None), now=0)
    for number in range(per_second):
        limiter.confirm(limiter.acquire(ChatId(number + 1), now=0), now=0, retry_after=None)
    return limiter


def test_without_limits_everybody_takes_what_it_wants(join: Join) -> None:
    shares = FairShareAllocator(BotRateLimiter(BotLimits.none(), now=0))
    one, other = join(shares), join(shares)
    for _ in range(5):
        for flight in (one, other):
            assert shares.allow(flight, 50, 1) == (50, 1)
            shares.admitted(flight, 50)


def test_nobody_is_taken_long_before_its_turn(join: Join) -> None:
    limiter = full(10)
    shares = FairShareAllocator(limiter)
    flight = join(shares)
    count, again_at = shares.allow(flight, 50, 0.5)
    assert count == 0
    assert 0.8 < again_at < 1.02
    assert shares.allow(flight, 50, again_at + 0.001)[0] == 1


def test_a_flight_is_not_far_ahead_of_another_that_is_hungry_too(join: Join) -> None:
    limiter = BotRateLimiter(BotLimits(bot=RateLimit(rate=30, burst=30), private_chat=None), now=0)
    shares = FairShareAllocator(limiter)
    woken: list[int] = []
    one, other = join(shares), join(shares, woken=woken)
    assert shares.allow(one, 100, 1)[0] == 30  # the other has not asked for anything yet
    shares.admitted(one, 2)
    assert shares.allow(other, 100, 1)[0] <= MAX_LEAD_MESSAGES + 1
    assert shares.allow(one, 100, 1)[0] <= MAX_LEAD_MESSAGES + 1
    shares.admitted(one, MAX_LEAD_MESSAGES + 1)
    assert woken
    assert shares.allow(one, 100, 1)[0] == 0
    assert shares.allow(other, 100, 1)[0] > 0


def test_one_that_wants_nothing_holds_up_nobody(join: Join) -> None:
    shares = FairShareAllocator(full(10))
    one, other = join(shares), join(shares)
    shares.allow(other, 5, 0.99)
    shares.admitted(one, 50)
    assert shares.allow(one, 5, 0.99)[0] == 0
    shares.allow(other, 0, 0.99)
    assert shares.allow(one, 5, 0.99)[0] == 1


def test_deliveries_are_not_taken_while_others_wait_for_the_bot(join: Join) -> None:
    limiter = BotRateLimiter(BotLimits(bot=RateLimit(rate=30, burst=30), private_chat=None), now=0)
    shares = FairShareAllocator(limiter)
    flight = join(shares)
    with limiter.waiting(Priority.INTERACTIVE):
        assert shares.allow(flight, 100, 1)[0] <= 1
    assert shares.allow(flight, 100, 1)[0] == 30


def test_a_broadcast_that_pauses_for_its_message_names_the_commands_that_follow() -> None:
    said = policy.pause_reason(REFUSED, BroadcastId(7))

    assert REFUSED.description in said
    for command in ("cancel 7", "results 7 --outcome pending -o rest.csv", "resume 7"):
        assert f"telewarm broadcast {command}" in said
