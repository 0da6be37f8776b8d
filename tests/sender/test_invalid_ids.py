"""Deaths of file ids: one by one they are the ids', together they are the bot's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telewarm.models import BotId, MediaId
from telewarm.sending.invalid_id_detector import MASS_INVALID_ITEMS, WINDOW_SECONDS, InvalidFileIdDetector

BOT, OTHER = BotId(1), BotId(2)
moments = st.floats(min_value=0, max_value=1e6)


def die(deaths: InvalidFileIdDetector, *ids: int, bot: BotId = BOT, now: float = 0.0) -> list[bool]:
    return [deaths.note_invalid(bot, MediaId(number), now=now) for number in ids]


@given(moments)
def test_several_items_that_die_in_a_row_are_the_bots_matter(now: float) -> None:
    assert die(InvalidFileIdDetector(), *range(MASS_INVALID_ITEMS + 1), now=now) == [False] * (
        MASS_INVALID_ITEMS - 1
    ) + [
        True,
        True,
    ]


def test_one_item_that_dies_often_is_not() -> None:
    assert not any(die(InvalidFileIdDetector(), *[7] * 20))


def test_a_success_by_id_in_between_starts_anew() -> None:
    deaths = InvalidFileIdDetector()
    for number in range(20):
        assert not any(die(deaths, number, number + 100))
        deaths.note_valid(BOT)
    assert len(deaths) == 0


def test_bots_do_not_die_of_each_other() -> None:
    deaths = InvalidFileIdDetector()
    die(deaths, 1, 2)
    assert die(deaths, 3, bot=OTHER) == [False]
    deaths.note_valid(OTHER)
    assert die(deaths, 3) == [True]


@given(moments, st.floats(min_value=1.01, max_value=100))
def test_deaths_far_apart_are_not_together(now: float, times: float) -> None:
    deaths = InvalidFileIdDetector()
    assert not any(
        deaths.note_invalid(BOT, MediaId(number), now=now + number * times * WINDOW_SECONDS / (MASS_INVALID_ITEMS - 1))
        for number in range(10)
    )


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 30)), max_size=60))
def test_what_is_held_of_a_bot_does_not_grow_and_the_rule_is_exact(events: list[tuple[int, float]]) -> None:
    deaths, now = InvalidFileIdDetector(), 0.0
    last: dict[int, float] = {}
    for number, pause in events:
        now += pause
        last[number] = now
        recent = [number for number, at in last.items() if at > now - WINDOW_SECONDS]
        assert deaths.note_invalid(BOT, MediaId(number), now=now) is (len(recent) >= MASS_INVALID_ITEMS)
        assert len(deaths._invalid_at[BOT]) <= MASS_INVALID_ITEMS
