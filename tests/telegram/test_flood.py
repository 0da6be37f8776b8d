"""Flood control of a bot: values in, values out, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.flood_control.bot_windows import (
    MAX_FLOOR_SECONDS,
    MIN_WINDOWS_BEFORE_SWEEP,
    SAMPLE_CALLS,
    LatencyFloor,
    LimitScope,
    ScopeEvidence,
    attribute_429,
)
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause, Permit
from telewarm.flood_control.limits import BotLimits, RateLimit
from telewarm.models import ChatId
from telewarm.sandbox.config import Floods
from telewarm.sandbox.floods import Gate

ANNA, BORIS = ChatId(11), ChatId(12)
NEWS, SPORT = ChatId(-1001), ChatId(-1002)
MB = 1_000_000
MINUTES_ONLY = BotLimits(group_second=None)
LATE = 0.11  # seconds that a scope opens later than the server's window, at most

waits = st.floats(min_value=0, max_value=3600)


def pass_(limiter: BotRateLimiter, chat_id: ChatId, *, now: float, size: int = 0, count: int = 1) -> None:
    """A message that passes at once."""
    limiter.confirm(limiter.acquire(chat_id, size=size, count=count, now=now), now=now, retry_after=None)


def flood(limiter: BotRateLimiter, chat_id: ChatId, wait: float, *, now: float, size: int = 0) -> FloodPause | None:
    """A message that is answered 429 at once."""
    return limiter.confirm(limiter.acquire(chat_id, size=size, now=now), now=now, retry_after=wait)


def post(limiter: BotRateLimiter, chat_ids: list[ChatId], *, size: int = 0, now: float = 0.0) -> list[float]:
    times = []
    for chat_id in chat_ids:
        now = limiter.opens_at(chat_id, size=size, now=now)
        pass_(limiter, chat_id, size=size, now=now)
        times.append(now)
    return times


def test_a_message_waits_for_the_slowest_of_its_scopes() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    assert post(limiter, [ANNA] * 10)[-1] == pytest.approx(9, abs=3 * LATE)


def test_many_chats_share_the_thirty_a_second_of_their_bot() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    assert post(limiter, [ChatId(n) for n in range(1, 91)])[-1] == pytest.approx(2, abs=2 * LATE)


def test_a_group_of_media_counts_each_item() -> None:
    limiter = BotRateLimiter(MINUTES_ONLY, now=0)
    pass_(limiter, NEWS, count=10, now=0)
    pass_(limiter, NEWS, count=6, now=10)
    assert limiter.opens_at(NEWS, count=4, now=10) == 10
    assert limiter.opens_at(NEWS, count=5, now=10) == pytest.approx(60, abs=LATE)


@pytest.mark.parametrize(
    ("size", "apart"), [(100_000, 0.0), (100_001, 0.2), (4 * MB, 0.4), (9 * MB, 0.9), (50 * MB, 0.9)]
)
def test_uploads_of_one_size_keep_their_distance(size: int, apart: float) -> None:
    limiter = BotRateLimiter(BotLimits(bot=None, private_chat=None), now=0)
    assert post(limiter, [ANNA, BORIS], size=size) == [0, pytest.approx(apart)]


def test_uploads_of_other_sizes_do_not_wait_for_each_other() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    limiter.acquire(ANNA, size=9 * MB, now=0)
    assert limiter.opens_at(BORIS, size=9 * MB + 1, now=0) == 0


def test_a_local_server_does_not_space_uploads() -> None:
    limiter = BotRateLimiter(BotLimits(same_size=None), now=0)
    limiter.acquire(ANNA, size=9 * MB, now=0)
    assert limiter.opens_at(BORIS, size=9 * MB, now=0) == 0


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (math.nan, 1), (1, 0)])
def test_a_limit_that_lets_nothing_go_is_a_mistake(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="lets something go"):
        RateLimit(rate=rate, burst=burst)


def test_no_limits_means_no_waiting_at_all() -> None:
    limiter = BotRateLimiter(BotLimits.none(), now=0)
    assert post(limiter, [ANNA, NEWS] * 1000, size=9 * MB)[-1] == 0
    assert len(limiter) == 1
    assert limiter.learned == {}


def test_without_limits_a_429_is_obeyed_all_the_same() -> None:
    limiter = BotRateLimiter(BotLimits.none(), now=0)
    assert flood(limiter, ANNA, 8, now=0) == FloodPause(chat_id=ANNA, seconds=8)
    assert limiter.opens_at(ANNA, now=1) == 8
    assert limiter.opens_at(BORIS, now=1) == 1


def test_a_429_closes_its_chat_and_no_other() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    assert flood(limiter, NEWS, 35, now=1) == FloodPause(chat_id=NEWS, seconds=35)
    assert limiter.opens_at(NEWS, now=1) == 36
    assert limiter.opens_at(SPORT, now=1) == 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    name: str
    wait: float
    bot: tuple[float, float]  # how full, and seconds until the oldest message leaves
    chat: tuple[float, float]
    spaced: bool = False
    others_flooded: bool = False
    about: LimitScope


CASES = [
    Case(name="the chat is full", wait=35, bot=(0.1, 0.9), chat=(1, 34.2), about=LimitScope.CHAT),
    Case(name="the bot is full", wait=1, bot=(1, 0.4), chat=(0.1, 50), about=LimitScope.BOT),
    Case(name="both could be", wait=1, bot=(0.9, 0.5), chat=(1, 0.3), about=LimitScope.CHAT),
    Case(name="both could be, the bot rather", wait=1, bot=(1.1, 0.5), chat=(1, 0.3), about=LimitScope.BOT),
    Case(name="the chat has room again", wait=1, bot=(0.9, 0.1), chat=(1, -0.5), about=LimitScope.BOT),
    Case(name="nothing explains it", wait=600, bot=(0.1, 1), chat=(0.1, 60), about=LimitScope.CHAT),
    Case(
        name="others too, little here", wait=35, bot=(0.1, 1), chat=(0.1, 60), others_flooded=True, about=LimitScope.BOT
    ),
    Case(
        name="several chats are full",
        wait=35,
        bot=(0.1, 1),
        chat=(0.6, 34.5),
        others_flooded=True,
        about=LimitScope.CHAT,
    ),
    Case(name="a backlog of one size", wait=60, bot=(0.1, 1), chat=(0.6, 20), spaced=True, about=LimitScope.SIZE),
    Case(
        name="large, and the chat just full", wait=60, bot=(0.1, 1), chat=(1, 59.8), spaced=True, about=LimitScope.CHAT
    ),
    Case(name="a minute for a small upload", wait=60, bot=(0.1, 1), chat=(0.1, 5), about=LimitScope.CHAT),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_a_429_is_about(case: Case) -> None:
    bot, chat = (ScopeEvidence(fill=fill, frees_in=frees_in) for fill, frees_in in (case.bot, case.chat))
    about = attribute_429(case.wait, bot=bot, chat=chat, spaced=case.spaced, others_flooded=case.others_flooded)
    assert about is case.about


def test_429s_for_two_chats_that_have_had_little_are_about_the_bot() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    flood(limiter, NEWS, 35, now=0)
    assert flood(limiter, SPORT, 35, now=1) == FloodPause(chat_id=None, seconds=35)
    assert limiter.opens_at(ANNA, now=1) == 36
    assert limiter.bot_opens_at(1) == 36


def test_429s_for_two_chats_one_after_the_other_are_about_the_chats() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    flood(limiter, NEWS, 5, now=0)
    flood(limiter, SPORT, 5, now=6)
    assert limiter.opens_at(ANNA, now=6) == 6


def test_two_chats_that_are_full_do_not_close_the_bot() -> None:
    """A regression: with several warm-up chats the whole bot paused although each chat had had its share."""
    limiter = BotRateLimiter(BotLimits(bot=None), now=0)
    for chat_id in (NEWS, SPORT):
        for _ in range(20):
            pass_(limiter, chat_id, now=0)
        flood(limiter, chat_id, 60, now=0.5)
    assert limiter.opens_at(ANNA, now=1) == 1


def test_a_backlog_of_one_size_closes_that_size_alone() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    assert flood(limiter, NEWS, 60, size=MB, now=0) == FloodPause(chat_id=NEWS, seconds=60)  # its only message is new

    pass_(limiter, SPORT, now=0)
    assert flood(limiter, SPORT, 60, size=MB, now=30) is None
    assert limiter.opens_at(SPORT, size=MB, now=30) == 90
    assert limiter.opens_at(SPORT, size=2 * MB, now=30) == 30


def test_what_others_closed_is_obeyed_without_blame() -> None:
    limiter = BotRateLimiter(BotLimits(private_chat=None), now=0)
    limiter.pause_chat(NEWS, 50)
    assert limiter.opens_at(NEWS, now=0) == 50
    limiter.pause_bot(100)
    limiter.pause_bot(50)
    assert limiter.opens_at(ANNA, now=0) == 100
    assert post(limiter, [ANNA] * 30, now=100)[-1] == 100
    assert limiter.learned == {}


def test_being_told_of_a_closed_chat_forgets_no_other() -> None:
    """A regression: scopes were swept by the time at which the chat would open."""
    limiter = BotRateLimiter(BotLimits(), now=0)
    for number in range(MIN_WINDOWS_BEFORE_SWEEP):
        limiter.pause_chat(ChatId(number + 1), 10)
    limiter.pause_chat(NEWS, 600)
    assert limiter.opens_at(ANNA, now=0) == 10


def test_what_was_learned_is_told_and_taken_up_again() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    for _ in range(10):
        pass_(limiter, NEWS, now=0)
    flood(limiter, NEWS, 60, now=0)
    assert limiter.learned == {"group": 10.0}

    again = BotRateLimiter(BotLimits(), now=0, learned=limiter.learned)
    assert again.learned == limiter.learned
    assert post(again, [SPORT] * 11)[-1] == pytest.approx(60, abs=LATE)


@pytest.mark.parametrize(
    "learned", [{"group": "many"}, {"group": None}, {"group": True}, {"group": math.nan}, {"bot": -3}, {"moon": 7}]
)
def test_what_makes_no_sense_was_not_learned(learned: Mapping[str, Any]) -> None:
    assert BotRateLimiter(BotLimits(), now=0, learned=learned).learned == {}


def test_a_chat_tells_how_full_it_is() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    assert limiter.fill(NEWS, now=0) == 0
    for _ in range(5):
        pass_(limiter, NEWS, now=0)
    assert limiter.fill(NEWS, now=0) == 0.25
    assert limiter.fill(NEWS, now=61) == 0


def full(limiter: BotRateLimiter, *chats: ChatId) -> None:
    for chat_id in chats:
        while limiter.opens_at(chat_id, now=0) <= 0:
            pass_(limiter, chat_id, now=0)


def test_a_chat_that_is_full_may_be_probed_but_not_when_its_bot_is_full_too() -> None:
    limiter = BotRateLimiter(BotLimits(bot=RateLimit(rate=25, burst=25), group_second=None), now=0)
    full(limiter, NEWS)
    assert limiter.probes_at(NEWS, now=0) <= 0
    full(limiter, SPORT)
    assert limiter.probes_at(NEWS, now=0) > 0
    assert limiter.probes_at(NEWS, now=0) == pytest.approx(1, abs=LATE)


def test_a_size_that_is_closed_or_a_chat_that_is_closed_by_a_429_is_not_probed() -> None:
    limiter = BotRateLimiter(BotLimits(bot=None, group_second=None), now=0)
    full(limiter, NEWS)
    limiter.acquire(SPORT, size=9 * MB, now=0)
    assert limiter.probes_at(NEWS, size=9 * MB, now=0) == pytest.approx(0.9)
    flood(limiter, NEWS, 30, now=0)
    assert limiter.probes_at(NEWS, now=10) > 10


def test_who_only_wants_back_what_the_settings_say_probes_no_further() -> None:
    limiter = BotRateLimiter(BotLimits(bot=None), now=0, learned={"private": 2})
    now = 0.0
    while limiter.probes_at(ANNA, now=now) > now:
        now = limiter.opens_at(ANNA, now=now)
        pass_(limiter, ANNA, now=now)
    while limiter.probes_at(ANNA, now=now, beyond_settings=False) <= now:
        pass_(limiter, ANNA, now=now)
    assert limiter.learned == {}
    assert limiter.probes_at(ANNA, now=now) <= now


def test_a_probe_that_was_abandoned_makes_room_for_another() -> None:
    limiter = BotRateLimiter(BotLimits(bot=None, group_second=None), now=0)
    full(limiter, NEWS)
    probe = limiter.acquire(NEWS, now=0)
    assert limiter.probes_at(NEWS, now=1) > 1
    limiter.abandon_permit(probe, now=1)
    assert limiter.learned == {}
    assert limiter.fill(NEWS, now=1) == 1


def test_a_call_takes_at_least_as_long_as_the_fastest_of_late() -> None:
    latency = LatencyFloor()
    for seconds in (0.3, 0.1, 0.4):
        latency.add(seconds)
    assert latency.least < 0.1  # it is too soon to say
    for _ in range(2 * SAMPLE_CALLS):
        latency.add(0.2)
    assert latency.least == 0.2
    latency.add(0.05)
    assert latency.least == 0.05
    for _ in range(3 * SAMPLE_CALLS):
        latency.add(30)
    assert latency.least == MAX_FLOOR_SECONDS


def test_idle_chats_are_forgotten_and_busy_ones_are_not() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    flood(limiter, NEWS, 1e9, now=0)
    for second in range(20_000):
        pass_(limiter, ChatId(second + 1), size=MB + second, now=second)
    assert len(limiter) <= 2 * MIN_WINDOWS_BEFORE_SWEEP + 1
    assert limiter.opens_at(NEWS, now=20_000) == 1e9


@given(st.lists(st.tuples(st.sampled_from([ANNA, BORIS, NEWS, SPORT]), st.sampled_from([0, MB, 2 * MB]), waits)))
def test_traffic_never_opens_before_any_429_said(answers: list[tuple[ChatId, int, float]]) -> None:
    limiter, latest = BotRateLimiter(BotLimits(), now=0), dict[ChatId | None, float]()
    for chat_id, size, wait in answers:
        closed = flood(limiter, chat_id, wait, size=size, now=0)
        if closed is None:
            assert limiter.opens_at(chat_id, size=size, now=0) >= wait
        else:
            assert closed.chat_id in {chat_id, None}
            latest[closed.chat_id] = max(latest.get(closed.chat_id, 0.0), wait)
    for closed_chat, wait in latest.items():
        assert limiter.opens_at(closed_chat or ANNA, now=0) >= wait


posts = st.tuples(
    st.sampled_from([ANNA, BORIS, NEWS, SPORT]), st.sampled_from([0, MB]), st.integers(min_value=1, max_value=10)
)


@given(
    st.lists(posts, min_size=1, max_size=80),
    st.lists(st.floats(min_value=0.03, max_value=0.2), min_size=80, max_size=80),
)
def test_whoever_waits_for_traffic_and_never_probes_is_never_refused(
    said: list[tuple[ChatId, int, int]], delays: list[float]
) -> None:
    """Each takes its time to arrive, several are on their way at once; the server counts by itself."""
    limiter, gate, now = BotRateLimiter(BotLimits(), now=0), Gate(Floods.telegram()), 0.0
    running: list[tuple[float, Permit]] = []
    for (chat_id, size, count), delay in zip(said, delays, strict=False):
        count = min(count, 3) if chat_id > 0 else count
        while (opens := limiter.opens_at(chat_id, size=size, count=count, now=now)) > now or len(running) == 5:
            now = min([opens if len(running) < 5 else math.inf, *(at for at, _ in running)])
            running = arrive(limiter, gate, running, now)
        running.append((now + delay, limiter.acquire(chat_id, size=size, count=count, now=now)))
    arrive(limiter, gate, running, math.inf)


def arrive(
    limiter: BotRateLimiter, gate: Gate, running: list[tuple[float, Permit]], now: float
) -> list[tuple[float, Permit]]:
    """What has arrived by now is counted by the server, which raises when it is too much, and answered."""
    for at, permit in sorted((one for one in running if one[0] <= now), key=lambda one: one[0]):
        gate.space(1, permit.size, at)
        gate.charge(1, permit.chat_id, at, permit.count)
        limiter.confirm(permit, now=at, retry_after=None)
    return [one for one in running if one[0] > now]
