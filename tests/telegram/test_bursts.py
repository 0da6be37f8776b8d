"""A group or channel takes about one message a second besides twenty a minute: short bursts, at the start too."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from telewarm.component_config import flood_limits
from telewarm.flood_control.bot_windows import LimitScope, ScopeEvidence, attribute_429
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause
from telewarm.flood_control.limits import BotLimits, RateLimit
from telewarm.flood_control.priority import Priority
from telewarm.models import ChatId
from telewarm.sandbox.config import Floods
from telewarm.sandbox.config import Limit as ServerLimit
from telewarm.settings import Settings
from telewarm_benchmarks.fresh_chats import fastest
from tests.telegram.simulation import GROUPS, Buckets, Charge, Simulation

ANNA, NEWS, SPORT = ChatId(11), ChatId(-1001), ChatId(-1002)
TELEGRAM = Floods.telegram()
SECOND, MINUTE = ServerLimit(count=3, seconds=3), ServerLimit(count=20, seconds=60)
LATE = 0.2  # seconds that scopes open later than the server's windows, at most


def pass_(limiter: BotRateLimiter, chat_id: ChatId, *, now: float, count: int = 1) -> None:
    limiter.confirm(limiter.acquire(chat_id, count=count, now=now), now=now, retry_after=None)


def post(limiter: BotRateLimiter, chat_id: ChatId, count: int) -> list[float]:
    """Messages as early as they may go, which pass at once; the times."""
    times, now = [], 0.0
    for _ in range(count):
        now = limiter.opens_at(chat_id, now=now)
        pass_(limiter, chat_id, now=now)
        times.append(now)
    return times


def flood(limiter: BotRateLimiter, chat_id: ChatId, wait: float, *, now: float) -> FloodPause | None:
    return limiter.confirm(limiter.acquire(chat_id, now=now), now=now, retry_after=wait)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("charge", [None, Buckets(rate=1, burst=3).charge], ids=["windows", "buckets"])
def test_eight_fresh_chats_get_320_photos_as_fast_as_they_may_with_hardly_a_429(
    charge: Charge | None, seed: int
) -> None:
    """Whichever way the server counts its second."""
    charge = charge and Buckets(rate=1, burst=3).charge  # a new one for each run
    outcome = Simulation(chats=GROUPS[:8], floods=TELEGRAM, seed=seed, messages=320, charge=charge).run(1000)

    assert len(outcome.passed) == 320
    assert outcome.refusals() < 0.03
    assert fastest(40, [SECOND, MINUTE]) / max(outcome.passed) >= 0.95
    assert outcome.learned.get("group_second", 3) == 3


@pytest.mark.parametrize("chats", [1, 3, 16])
def test_however_many_chats_there_are_the_start_meets_hardly_a_429(chats: int) -> None:
    outcome = Simulation(chats=GROUPS[:chats], floods=TELEGRAM, messages=40 * chats).run(1000)

    assert outcome.refusals() <= max(0.03, 1 / (40 * chats))
    assert fastest(40, [SECOND, MINUTE]) / max(outcome.passed) >= 0.95


@pytest.mark.parametrize(("rate", "burst"), [(1, 1), (0.5, 3), (0.5, 1), (1, 2)])
def test_a_server_that_takes_less_a_second_is_learned_and_its_minute_used(rate: float, burst: int) -> None:
    charge = Buckets(rate=rate, burst=burst).charge
    outcome = Simulation(chats=GROUPS[:8], floods=TELEGRAM, charge=charge).run(600)

    assert outcome.refusals(since=60) < 0.03
    assert outcome.share_of(8 * 20 / 60, since=60, until=600) >= 0.9


def test_a_server_without_such_a_rule_is_not_tried_for_more_than_its_minute_can_use() -> None:
    outcome = Simulation(chats=GROUPS[:4], floods=replace(TELEGRAM, group_second=None)).run(370)
    assert outcome.learned.get("group_second", 3) == 3
    assert outcome.refusals() < 0.01

    many = ServerLimit(count=80, seconds=60)
    generous = Simulation(chats=GROUPS[:1], floods=Floods(group=many)).run(600)
    assert generous.learned["group"] >= 78
    assert generous.learned["group_second"] == 4
    assert generous.share_of(80 / 60, since=120, until=600) >= 0.9


def test_a_group_takes_three_at_once_and_then_one_a_second_and_a_private_chat_is_as_before() -> None:
    times = post(BotRateLimiter(BotLimits(), now=0), NEWS, 41)
    assert times[:3] == [0, 0, 0]
    assert times[3] == times[5] == pytest.approx(3, abs=LATE)
    assert times[19] == pytest.approx(18, abs=LATE)
    assert times[20] == pytest.approx(60, abs=LATE)
    assert times[39] == pytest.approx(78, abs=3 * LATE)
    assert post(BotRateLimiter(BotLimits(group_second=None), now=0), NEWS, 20)[-1] == 0
    assert post(BotRateLimiter(BotLimits(), now=0), ANNA, 4)[-1] == pytest.approx(3, abs=LATE)


def test_chats_do_not_wait_for_each_other() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    post(limiter, NEWS, 3)
    assert limiter.opens_at(SPORT, now=0) == 0


@pytest.mark.parametrize("rank", list(Priority))
def test_sends_warm_ups_and_deliveries_obey_the_same_rule(rank: Priority) -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    for _ in range(3):
        pass_(limiter, NEWS, now=0)
    assert limiter.next_send_at(NEWS, now=0, priority=rank) == pytest.approx(3, abs=LATE)
    assert limiter.chat_opens_at(NEWS, now=0, behind=3) == pytest.approx(6, abs=LATE)
    assert not limiter.is_free(NEWS, size=0, now=0, priority=rank)


def test_an_album_waits_for_an_empty_burst_and_fills_it() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    pass_(limiter, NEWS, now=0)
    assert limiter.opens_at(NEWS, count=2, now=0.5) == 0.5
    assert limiter.opens_at(NEWS, count=10, now=0.5) == pytest.approx(3, abs=LATE)
    pass_(limiter, NEWS, count=10, now=4)
    assert limiter.opens_at(NEWS, now=4) == pytest.approx(7, abs=LATE)


def test_a_429_for_the_second_lowers_the_second_and_closes_its_chat_alone() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    pass_(limiter, NEWS, now=0)
    assert flood(limiter, NEWS, 1, now=0.1) == FloodPause(chat_id=NEWS, seconds=1)
    assert limiter.learned == {"group_second": 1.0}
    assert limiter.opens_at(NEWS, now=0.2) == pytest.approx(3, abs=LATE)
    assert limiter.opens_at(SPORT, now=0.2) == 0.2
    again = BotRateLimiter(BotLimits(), now=0, learned=limiter.learned)
    assert post(again, SPORT, 2)[-1] == pytest.approx(3, abs=LATE)


def test_a_429_that_asks_for_longer_than_the_second_is_about_the_minute() -> None:
    limiter = BotRateLimiter(BotLimits(), now=0)
    for _ in range(2):
        pass_(limiter, NEWS, now=0)
    flood(limiter, NEWS, 35, now=0.1)
    assert "group_second" not in limiter.learned
    assert limiter.opens_at(NEWS, now=1) == pytest.approx(35.1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    name: str
    wait: float
    bot: tuple[float, float]  # how full, and seconds until the oldest message leaves
    chat: tuple[float, float] = (0.2, 58.0)
    burst: tuple[float, float] = (1.0, 2.5)
    about: LimitScope


CASES = [
    Case(name="a window of seconds", wait=3, bot=(0.3, 0.5), about=LimitScope.BURST),
    Case(name="a bucket, and the bot has done little", wait=1, bot=(0.3, 0.5), about=LimitScope.BURST),
    Case(name="the bot is half full, as a window asks", wait=1, bot=(0.6, 0.5), about=LimitScope.BOT),
    Case(name="the bot is full, and both explain it", wait=1, bot=(1.0, 0.5), burst=(0.7, 0.6), about=LimitScope.BOT),
    Case(name="the minute is full and names its time", wait=2, bot=(0.1, 0.9), chat=(1.0, 1.4), about=LimitScope.CHAT),
    Case(name="longer than the burst", wait=40, bot=(0.1, 0.9), chat=(0.6, 58.0), about=LimitScope.CHAT),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_a_short_429_of_a_group_is_about(case: Case) -> None:
    bot, chat, burst = (
        ScopeEvidence(fill=fill, frees_in=frees_in) for fill, frees_in in (case.bot, case.chat, case.burst)
    )
    about = attribute_429(case.wait, bot=bot, chat=chat, burst=burst, spaced=False, others_flooded=True)
    assert about is case.about


def limits_of(**environ: str) -> BotLimits:
    return flood_limits(Settings.from_environ(environ, None))


def test_the_settings_say_how_many_and_never_less_than_the_minute_does() -> None:
    assert limits_of().group_second == RateLimit(rate=1, burst=3)
    assert limits_of(
        TELEWARM_FLOOD_GROUP_PER_SECOND="2", TELEWARM_FLOOD_GROUP_PER_SECOND_BURST="5"
    ).group_second == RateLimit(rate=2, burst=5)
    assert limits_of(TELEWARM_FLOOD_GROUP_PER_SECOND_BURST="100000").group_second is None
    assert limits_of(TELEWARM_FLOOD_GROUP_BURST="100000").group_second is None
    assert limits_of(TELEWARM_FLOOD_GROUP_PER_MINUTE="120").group_second == RateLimit(rate=2, burst=3)
    seconds = limits_of(TELEWARM_FLOOD_GROUP_PER_MINUTE="600", TELEWARM_FLOOD_GROUP_BURST="10")
    assert seconds.group_second is None  # the window of the group is one of seconds itself
