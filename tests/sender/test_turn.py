"""One message waits its turn: who goes first, how long, and what a 429 does."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from telewarm import clock
from telewarm.errors import BadRequest, BotDeleted, FloodWait, TelegramUnreachable
from telewarm.lanes import LiveBot
from telewarm.model import Bot, BotId, ChatId
from telewarm.sender.turn import Turn, in_turn
from telewarm.telegram import BotApi, Closed, Limit, Limits, Rank, Traffic, Transport
from tests.fixtures.sandbox import FIRST_BOT, token

ANNA, BORIS = ChatId(11), ChatId(12)
SLOW = Limits(bot=Limit(rate=20, burst=1), private_chat=None, group=None, same_size=None)
PACE = 1 / 20  # seconds
ONE_AN_HOUR = Limits(bot=None, private_chat=Limit(rate=1 / 3600, burst=1), same_size=None)

Speaker = Callable[[Limits], LiveBot]


@pytest.fixture
async def speaker() -> AsyncIterator[Speaker]:
    """A bot with limits of the test's own; nothing listens where it would call."""
    async with Transport.open() as transport:

        def make(limits: Limits) -> LiveBot:
            bot = Bot(
                id=BotId(1),
                slug="bot",
                telegram_id=FIRST_BOT,
                username=None,
                token=token(0),
                warmup_chats=(ChatId(-1),),
            )
            return LiveBot(
                bot=bot,
                api=BotApi(transport, bot.token, root="http://127.0.0.1:9"),
                traffic=Traffic(limits, now=clock.monotonic()),
                on_closed=lambda _: None,
            )

        yield make


def turn(live: LiveBot, chat_id: ChatId = ANNA, *, patience: float = 10.0, rank: Rank = Rank.INTERACTIVE) -> Turn:
    return Turn(live=live, chat_id=chat_id, until=clock.monotonic() + patience, rank=rank)


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


async def used_up(live: LiveBot, chat_id: ChatId = ANNA) -> None:
    """What the limits let go at once has gone."""
    await in_turn(turn(live, chat_id), saying([], "first"))


def ask(
    live: LiveBot,
    said: list[str],
    word: str,
    chat_id: ChatId = ANNA,
    *,
    patience: float = 10.0,
    rank: Rank = Rank.INTERACTIVE,
) -> asyncio.Task[str]:
    return asyncio.create_task(in_turn(turn(live, chat_id, patience=patience, rank=rank), saying(said, word)))


def nobody_waits(live: LiveBot) -> bool:
    waits = [live.traffic.waiting.of(rank) for rank in Rank]
    return waits == [0, 0, 0] and not any(live.lines.busy(chat_id, rank) for chat_id in (ANNA, BORIS) for rank in Rank)


async def until_waiting(live: LiveBot, count: int) -> None:
    while sum(live.traffic.waiting.of(rank) for rank in Rank) < count:
        await clock.sleep(0)


async def test_a_429_is_waited_out_and_told_to_whoever_tells_the_others(speaker: Speaker) -> None:
    live, told, started = speaker(Limits.none()), list[Closed](), clock.monotonic()
    live.on_closed = told.append

    assert await in_turn(turn(live), flood(0.1, times=2)) == "sent"

    assert clock.monotonic() - started >= 0.2
    assert told == [Closed(chat_id=ANNA, seconds=0.1)] * 2


async def test_a_429_that_outlasts_the_senders_patience_is_told_at_once(speaker: Speaker) -> None:
    live, started = speaker(Limits.none()), clock.monotonic()

    with pytest.raises(FloodWait) as raised:
        await in_turn(turn(live, patience=2), flood(7))

    assert clock.monotonic() - started < 1
    assert 6.5 < raised.value.retry_after <= 7
    assert nobody_waits(live)


async def test_a_chat_that_opens_too_late_is_told_at_once_with_the_seconds_to_wait(speaker: Speaker) -> None:
    live, started = speaker(ONE_AN_HOUR), clock.monotonic()
    await used_up(live)

    with pytest.raises(FloodWait, match="try again in 36") as raised:
        await in_turn(turn(live, rank=Rank.DELIVERY), saying([], "never"))

    assert clock.monotonic() - started < 1
    assert 3590 < raised.value.retry_after <= 3601
    assert raised.value.retry_after == round(raised.value.retry_after, 1)


async def test_the_seconds_to_wait_are_rounded_up(speaker: Speaker) -> None:
    live = speaker(SLOW)
    live.traffic.close_bot(clock.monotonic() + 5.04)

    with pytest.raises(FloodWait) as raised:
        await in_turn(turn(live, patience=0), saying([], "never"))

    assert raised.value.retry_after == 5.1


async def test_many_that_wait_go_in_the_order_in_which_they_came(speaker: Speaker) -> None:
    live, said = speaker(Limits(bot=Limit(rate=200, burst=2), private_chat=None, same_size=None)), list[str]()

    async with asyncio.timeout(5):
        await asyncio.gather(*(ask(live, said, str(number), ChatId(number + 1)) for number in range(40)))

    assert said == [str(number) for number in range(40)]


async def test_many_that_wait_for_one_chat_go_in_order_too(speaker: Speaker) -> None:
    live, said = speaker(Limits(bot=None, private_chat=Limit(rate=200, burst=1), same_size=None)), list[str]()

    await asyncio.gather(*(ask(live, said, str(number)) for number in range(20)))

    assert said == [str(number) for number in range(20)]
    assert nobody_waits(live)


async def test_who_comes_just_when_it_opens_goes_after_those_that_wait(speaker: Speaker) -> None:
    live, said = speaker(SLOW), list[str]()
    opens_at = clock.monotonic() + 0.05
    live.traffic.close_bot(opens_at)
    waiting = [ask(live, said, str(number), ChatId(20 + number)) for number in range(2)]
    await until_waiting(live, 2)
    while clock.monotonic() < opens_at:
        pass  # nobody who waits has looked up yet

    await in_turn(turn(live), saying(said, "last"))

    await asyncio.gather(*waiting)
    assert said == ["0", "1", "last"]


class Watched(Traffic):
    """Counts the looks whether something may go."""

    looks = 0

    def goes_at(self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float, rank: Rank) -> float:
        self.looks += 1
        return super().goes_at(chat_id, size=size, count=count, now=now, rank=rank)


async def test_each_that_waits_costs_the_same_however_many_wait(speaker: Speaker) -> None:
    limits = Limits(bot=Limit(rate=500, burst=1), private_chat=None, same_size=None)
    looks = {}
    for many in (20, 200):
        live = speaker(limits)
        traffic = live.traffic = Watched(limits, now=clock.monotonic())
        await asyncio.gather(*(ask(live, [], "", ChatId(number + 1)) for number in range(many)))
        looks[many] = traffic.looks / many

    assert looks[200] < 2 * looks[20]
    assert looks[200] < 8


async def test_who_is_answered_by_hand_goes_before_deliveries_that_wait_longer(speaker: Speaker) -> None:
    live, said = speaker(SLOW), list[str]()
    await used_up(live)
    deliveries = [ask(live, said, "delivery", ChatId(20 + number), rank=Rank.DELIVERY) for number in range(5)]
    await until_waiting(live, 5)

    people = [ask(live, said, "person", ChatId(30 + number)) for number in range(3)]
    await asyncio.gather(*deliveries, *people)

    assert said == ["person"] * 3 + ["delivery"] * 5


async def test_while_a_lane_waits_for_the_bot_deliveries_do_not_go_and_people_do(speaker: Speaker) -> None:
    live, said = speaker(SLOW), list[str]()

    with live.traffic.waiting(Rank.WARMUP):
        delivery = ask(live, said, "delivery", rank=Rank.DELIVERY)
        for number in range(3):
            await ask(live, said, "person", ChatId(30 + number))
        assert not delivery.done()
    await delivery

    assert said == ["person"] * 3 + ["delivery"]


async def test_who_waits_for_a_closed_chat_holds_up_nobody(speaker: Speaker) -> None:
    live, said = speaker(Limits.none()), list[str]()
    live.traffic.close_chat(ANNA, clock.monotonic() + 0.3)
    waiting = ask(live, said, "to anna", ANNA)
    await clock.sleep(0)

    for _ in range(100):
        await in_turn(turn(live, BORIS, rank=Rank.DELIVERY), saying(said, "to boris"))
    assert not waiting.done()
    await waiting

    assert said == ["to boris"] * 100 + ["to anna"]


async def test_who_gives_up_or_is_cancelled_leaves_no_trace(speaker: Speaker) -> None:
    live, said = speaker(SLOW), list[str]()
    live.traffic.close_bot(clock.monotonic() + 0.2)
    waiting = [ask(live, said, str(number), ChatId(20 + number)) for number in range(4)]
    await until_waiting(live, 4)
    waiting[0].cancel()  # the first of the line
    waiting[2].cancel()

    await asyncio.wait(waiting)

    assert said == ["1", "3"]
    assert nobody_waits(live)


async def test_those_before_it_in_the_line_count_when_a_wait_is_too_long(speaker: Speaker) -> None:
    live, said = speaker(SLOW), list[str]()
    await used_up(live)
    waiting = [ask(live, said, str(number), ChatId(20 + number)) for number in range(10)]
    await until_waiting(live, 10)

    started = clock.monotonic()
    with pytest.raises(FloodWait) as raised:
        await in_turn(turn(live, patience=5 * PACE), saying([], "never"))

    assert clock.monotonic() - started < PACE
    assert 9 * PACE < raised.value.retry_after < 14 * PACE
    await asyncio.gather(*waiting)


async def test_who_waits_in_the_line_leaves_when_its_time_is_over(speaker: Speaker) -> None:
    """Those that go first take its place again and again."""
    live, started = speaker(SLOW), clock.monotonic()
    await used_up(live)
    with live.traffic.waiting(Rank.INTERACTIVE):
        first = ask(live, [], "first", ChatId(21), patience=10, rank=Rank.DELIVERY)
        await until_waiting(live, 2)
        with pytest.raises(FloodWait):
            await in_turn(turn(live, ChatId(22), patience=0.3, rank=Rank.DELIVERY), saying([], "second"))
    await first

    assert 0.3 <= clock.monotonic() - started < 2


async def test_a_wait_that_turns_out_longer_ends_for_all_that_it_is_too_long_for(speaker: Speaker) -> None:
    live = speaker(SLOW)
    await used_up(live)
    waiting = [ask(live, [], "", ChatId(20 + number), patience=3) for number in range(20)]
    await until_waiting(live, 20)
    started = clock.monotonic()

    live.traffic.close_bot(clock.monotonic() + 60)
    answers = await asyncio.gather(*waiting, return_exceptions=True)

    assert clock.monotonic() - started < 1
    assert Counter(type(answer) for answer in answers) == {FloodWait: 20}


async def test_without_end_means_as_long_as_it_takes(speaker: Speaker) -> None:
    live, said = speaker(SLOW), list[str]()
    await used_up(live)
    asked = [Turn(live=live, chat_id=ChatId(20 + number), until=math.inf) for number in range(3)]

    await asyncio.gather(*(in_turn(one, saying(said, "sent")) for one in asked))

    assert said == ["sent"] * 3


REFUSED = BadRequest(method="sendPhoto", status=400, description="Bad Request: nope")
UNREACHABLE = TelegramUnreachable("no answer", method="sendPhoto", effect_possible=True)


@pytest.mark.parametrize(
    "error", [REFUSED, UNREACHABLE, KeyError("bug"), asyncio.CancelledError()], ids=lambda error: type(error).__name__
)
async def test_however_a_call_ends_it_is_raised_and_counts(speaker: Speaker, error: BaseException) -> None:
    live = speaker(Limits())

    async def call() -> None:
        raise error

    with pytest.raises(type(error)):
        await in_turn(turn(live), call)

    assert live.traffic.fill(ANNA, now=clock.monotonic()) == pytest.approx(1 / 3)
    assert live.traffic.sent == 1


async def test_a_message_in_the_room_of_others_is_told_before_it_goes(speaker: Speaker) -> None:
    live, told = speaker(Limits()), list[float]()
    live.on_held = lambda: told.append(clock.monotonic())
    live.traffic.elsewhere(30, now=clock.monotonic())
    went = list[float]()

    async def call() -> None:
        went.append(clock.monotonic())

    await in_turn(turn(live), call)

    assert len(told) == 1
    assert 0.05 < went[0] - told[0] < 0.5


async def test_a_bot_that_is_deleted_while_its_message_waits_says_it_no_more(speaker: Speaker) -> None:
    live, said = speaker(SLOW), list[str]()
    await in_turn(turn(live), saying(said, "before"))
    waiting = asyncio.create_task(in_turn(turn(live), saying(said, "after")))
    await clock.sleep(0)
    live.bot = replace(live.bot, deleted_at=clock.now())

    with pytest.raises(BotDeleted, match="undelete"):
        await waiting
    live.bot = replace(live.bot, deleted_at=None)
    await in_turn(turn(live), saying(said, "back"))

    assert said == ["before", "back"]
