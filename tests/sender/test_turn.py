"""One message waits its turn: who goes first, how long, and what a 429 does."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.errors import BadRequest, BotDeleted, FloodWait, TelegramUnreachable
from telewarm.flood_control.limiter import BotRateLimiter, FloodPause
from telewarm.flood_control.limits import BotLimits, RateLimit
from telewarm.flood_control.priority import Priority
from telewarm.models import Bot, BotId, ChatId
from telewarm.sending.rate_limited_call import SendSlot, with_rate_limit
from telewarm.telegram.client import BotApi
from telewarm.telegram.transport import Transport
from tests.fixtures.sandbox import FIRST_BOT, token

ANNA, BORIS = ChatId(11), ChatId(12)
SLOW = BotLimits(bot=RateLimit(rate=20, burst=1), private_chat=None, group=None, same_size=None)
PACE = 1 / 20  # seconds
ONE_AN_HOUR = BotLimits(bot=None, private_chat=RateLimit(rate=1 / 3600, burst=1), same_size=None)

Speaker = Callable[[BotLimits], BotSession]


@pytest.fixture
async def speaker() -> AsyncIterator[Speaker]:
    """A bot with limits of the test's own; nothing listens where it would call."""
    async with Transport.open() as transport:

        def make(limits: BotLimits) -> BotSession:
            bot = Bot(
                id=BotId(1),
                slug="bot",
                telegram_id=FIRST_BOT,
                username=None,
                token=token(0),
                warmup_chats=(ChatId(-1),),
            )
            return BotSession(
                bot=bot,
                api=BotApi(transport, bot.token, root="http://127.0.0.1:9"),
                limiter=BotRateLimiter(limits, now=clock.monotonic()),
                on_pause=lambda _: None,
            )

        yield make


def turn(
    session: BotSession, chat_id: ChatId = ANNA, *, patience: float = 10.0, rank: Priority = Priority.INTERACTIVE
) -> SendSlot:
    return SendSlot(session=session, chat_id=chat_id, deadline=clock.monotonic() + patience, priority=rank)


def saying(said: list[str], word: str) -> Callable[[], Awaitable[str]]:
    async def say() -> str:
        said.append(word)
        return word

    return say


def flood(seconds: float, *, times: int = 1) -> Callable[[], Awaitable[str]]:
    """Is answered 429 so many times."""
    left = [seconds] * times

    async def call() -> str:
        if left:
            raise FloodWait(method="sendPhoto", status=429, description="Too Many Requests", retry_after=left.pop())
        return "sent"

    return call


async def used_up(session: BotSession, chat_id: ChatId = ANNA) -> None:
    """What the limits let go at once has gone."""
    await with_rate_limit(turn(session, chat_id), saying([], "first"))


def ask(
    session: BotSession,
    said: list[str],
    word: str,
    chat_id: ChatId = ANNA,
    *,
    patience: float = 10.0,
    rank: Priority = Priority.INTERACTIVE,
) -> asyncio.Task[str]:
    return asyncio.create_task(
        with_rate_limit(turn(session, chat_id, patience=patience, rank=rank), saying(said, word))
    )


def nobody_waits(session: BotSession) -> bool:
    waits = [session.limiter.waiting.of(rank) for rank in Priority]
    return waits == [0, 0, 0] and not any(
        session.wait_queues.busy(chat_id, rank) for chat_id in (ANNA, BORIS) for rank in Priority
    )


async def until_waiting(session: BotSession, count: int) -> None:
    while sum(session.limiter.waiting.of(rank) for rank in Priority) < count:
        await clock.sleep(0)


async def test_a_429_is_waited_out_and_told_to_whoever_tells_the_others(speaker: Speaker) -> None:
    session, reported, started = speaker(BotLimits.none()), list[FloodPause](), clock.monotonic()
    session.on_pause = reported.append

    assert await with_rate_limit(turn(session), flood(0.1, times=2)) == "sent"

    assert clock.monotonic() - started >= 0.2
    assert reported == [FloodPause(chat_id=ANNA, seconds=0.1)] * 2


async def test_a_429_that_outlasts_the_senders_patience_is_told_at_once(speaker: Speaker) -> None:
    session, started = speaker(BotLimits.none()), clock.monotonic()

    with pytest.raises(FloodWait) as raised:
        await with_rate_limit(turn(session, patience=2), flood(7))

    assert clock.monotonic() - started < 1
    assert 6.5 < raised.value.retry_after <= 7
    assert nobody_waits(session)


async def test_a_chat_that_opens_too_late_is_told_at_once_with_the_seconds_to_wait(speaker: Speaker) -> None:
    session, started = speaker(ONE_AN_HOUR), clock.monotonic()
    await used_up(session)

    with pytest.raises(FloodWait, match="try again in 36") as raised:
        await with_rate_limit(turn(session, rank=Priority.DELIVERY), saying([], "never"))

    assert clock.monotonic() - started < 1
    assert 3590 < raised.value.retry_after <= 3601
    assert raised.value.retry_after == round(raised.value.retry_after, 1)


async def test_the_seconds_to_wait_are_rounded_up(speaker: Speaker) -> None:
    session = speaker(SLOW)
    session.limiter.pause_bot(clock.monotonic() + 5.04)

    with pytest.raises(FloodWait) as raised:
        await with_rate_limit(turn(session, patience=0), saying([], "never"))

    assert raised.value.retry_after == 5.1


async def test_many_that_wait_go_in_the_order_in_which_they_came(speaker: Speaker) -> None:
    session, said = speaker(BotLimits(bot=RateLimit(rate=200, burst=2), private_chat=None, same_size=None)), list[str]()

    async with asyncio.timeout(5):
        await asyncio.gather(*(ask(session, said, str(number), ChatId(number + 1)) for number in range(40)))

    assert said == [str(number) for number in range(40)]


async def test_many_that_wait_for_one_chat_go_in_order_too(speaker: Speaker) -> None:
    session, said = speaker(BotLimits(bot=None, private_chat=RateLimit(rate=200, burst=1), same_size=None)), list[str]()

    await asyncio.gather(*(ask(session, said, str(number)) for number in range(20)))

    assert said == [str(number) for number in range(20)]
    assert nobody_waits(session)


async def test_who_comes_just_when_it_opens_goes_after_those_that_wait(speaker: Speaker) -> None:
    session, said = speaker(SLOW), list[str]()
    opens_at = clock.monotonic() + 0.05
    session.limiter.pause_bot(opens_at)
    waiting = [ask(session, said, str(number), ChatId(20 + number)) for number in range(2)]
    await until_waiting(session, 2)
    while clock.monotonic() < opens_at:
        pass  # nobody who waits has looked up yet

    await with_rate_limit(turn(session), saying(said, "last"))

    await asyncio.gather(*waiting)
    assert said == ["0", "1", "last"]


class Watched(BotRateLimiter):
    """Counts the looks whether something may go."""

    looks = 0

    def next_send_at(self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, priority: Priority) -> float:
        self.looks += 1
        return super().next_send_at(chat_id, size=size, count=count, now=now, priority=priority)


async def test_each_that_waits_costs_the_same_however_many_wait(speaker: Speaker) -> None:
    limits = BotLimits(bot=RateLimit(rate=500, burst=1), private_chat=None, same_size=None)
    looks = {}
    for many in (20, 200):
        session = speaker(limits)
        limiter = session.limiter = Watched(limits, now=clock.monotonic())
        await asyncio.gather(*(ask(session, [], "", ChatId(number + 1)) for number in range(many)))
        looks[many] = limiter.looks / many

    assert looks[200] < 2 * looks[20]
    assert looks[200] < 8


async def test_who_is_answered_by_hand_goes_before_deliveries_that_wait_longer(speaker: Speaker) -> None:
    session, said = speaker(SLOW), list[str]()
    await used_up(session)
    deliveries = [ask(session, said, "delivery", ChatId(20 + number), rank=Priority.DELIVERY) for number in range(5)]
    await until_waiting(session, 5)

    people = [ask(session, said, "person", ChatId(30 + number)) for number in range(3)]
    await asyncio.gather(*deliveries, *people)

    assert said == ["person"] * 3 + ["delivery"] * 5


async def test_while_a_lane_waits_for_the_bot_deliveries_do_not_go_and_people_do(speaker: Speaker) -> None:
    session, said = speaker(SLOW), list[str]()

    with session.limiter.waiting(Priority.WARMUP):
        delivery = ask(session, said, "delivery", rank=Priority.DELIVERY)
        for number in range(3):
            await ask(session, said, "person", ChatId(30 + number))
        assert not delivery.done()
    await delivery

    assert said == ["person"] * 3 + ["delivery"]


async def test_who_waits_for_a_closed_chat_holds_up_nobody(speaker: Speaker) -> None:
    session, said = speaker(BotLimits.none()), list[str]()
    session.limiter.pause_chat(ANNA, clock.monotonic() + 0.3)
    waiting = ask(session, said, "to anna", ANNA)
    await clock.sleep(0)

    for _ in range(100):
        await with_rate_limit(turn(session, BORIS, rank=Priority.DELIVERY), saying(said, "to boris"))
    assert not waiting.done()
    await waiting

    assert said == ["to boris"] * 100 + ["to anna"]


async def test_who_gives_up_or_is_cancelled_leaves_no_trace(speaker: Speaker) -> None:
    session, said = speaker(SLOW), list[str]()
    session.limiter.pause_bot(clock.monotonic() + 0.2)
    waiting = [ask(session, said, str(number), ChatId(20 + number)) for number in range(4)]
    await until_waiting(session, 4)
    waiting[0].cancel()  # the first of the line
    waiting[2].cancel()

    await asyncio.wait(waiting)

    assert said == ["1", "3"]
    assert nobody_waits(session)


async def test_those_before_it_in_the_line_count_when_a_wait_is_too_long(speaker: Speaker) -> None:
    session, said = speaker(SLOW), list[str]()
    await used_up(session)
    waiting = [ask(session, said, str(number), ChatId(20 + number)) for number in range(10)]
    await until_waiting(session, 10)

    started = clock.monotonic()
    with pytest.raises(FloodWait) as raised:
        await with_rate_limit(turn(session, patience=5 * PACE), saying([], "never"))

    assert clock.monotonic() - started < PACE
    assert 9 * PACE < raised.value.retry_after < 14 * PACE
    await asyncio.gather(*waiting)


async def test_who_waits_in_the_line_leaves_when_its_time_is_over(speaker: Speaker) -> None:
    """Those that go first take its place again and again."""
    session, started = speaker(SLOW), clock.monotonic()
    await used_up(session)
    with session.limiter.waiting(Priority.INTERACTIVE):
        first = ask(session, [], "first", ChatId(21), patience=10, rank=Priority.DELIVERY)
        await until_waiting(session, 2)
        with pytest.raises(FloodWait):
            await with_rate_limit(turn(session, ChatId(22), patience=0.3, rank=Priority.DELIVERY), saying([], "second"))
    await first

    assert 0.3 <= clock.monotonic() - started < 2


async def test_a_wait_that_turns_out_longer_ends_for_all_that_it_is_too_long_for(speaker: Speaker) -> None:
    session = speaker(SLOW)
    await used_up(session)
    waiting = [ask(session, [], "", ChatId(20 + number), patience=3) for number in range(20)]
    await until_waiting(session, 20)
    started = clock.monotonic()

    session.limiter.pause_bot(clock.monotonic() + 60)
    answers = await asyncio.gather(*waiting, return_exceptions=True)

    assert clock.monotonic() - started < 1
    assert Counter(type(answer) for answer in answers) == {FloodWait: 20}


async def test_without_end_means_as_long_as_it_takes(speaker: Speaker) -> None:
    session, said = speaker(SLOW), list[str]()
    await used_up(session)
    asked = [SendSlot(session=session, chat_id=ChatId(20 + number), deadline=math.inf) for number in range(3)]

    await asyncio.gather(*(with_rate_limit(one, saying(said, "sent")) for one in asked))

    assert said == ["sent"] * 3


REFUSED = BadRequest(method="sendPhoto", status=400, description="Bad Request: nope")
UNREACHABLE = TelegramUnreachable("no answer", method="sendPhoto", effect_possible=True)


@pytest.mark.parametrize(
    "error", [REFUSED, UNREACHABLE, KeyError("bug"), asyncio.CancelledError()], ids=lambda error: type(error).__name__
)
async def test_however_a_call_ends_it_is_raised_and_counts(speaker: Speaker, error: BaseException) -> None:
    session = speaker(BotLimits())

    async def call() -> None:
        raise error

    with pytest.raises(type(error)):
        await with_rate_limit(turn(session), call)

    assert session.limiter.fill(ANNA, now=clock.monotonic()) == pytest.approx(1 / 3)
    assert session.limiter.sent == 1


async def test_a_message_in_the_room_of_others_is_told_before_it_goes(speaker: Speaker) -> None:
    session, reported = speaker(BotLimits()), list[float]()
    session.on_held = lambda: reported.append(clock.monotonic())
    session.limiter.add_remote(30, now=clock.monotonic())
    went = list[float]()

    async def call() -> None:
        went.append(clock.monotonic())

    await with_rate_limit(turn(session), call)

    assert len(reported) == 1
    assert 0.05 < went[0] - reported[0] < 0.5


async def test_a_bot_that_is_deleted_while_its_message_waits_says_it_no_more(speaker: Speaker) -> None:
    session, said = speaker(SLOW), list[str]()
    await with_rate_limit(turn(session), saying(said, "before"))
    waiting = asyncio.create_task(with_rate_limit(turn(session), saying(said, "after")))
    await clock.sleep(0)
    session.bot = replace(session.bot, deleted_at=clock.now())

    with pytest.raises(BotDeleted, match="undelete"):
        await waiting
    session.bot = replace(session.bot, deleted_at=None)
    await with_rate_limit(turn(session), saying(said, "back"))

    assert said == ["before", "back"]
