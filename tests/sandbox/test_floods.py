"""Flood limits as values: no clock, no sleep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.sandbox.config import Floods, Limit
from telewarm.sandbox.errors import ApiError
from telewarm.sandbox.floods import Gate, Window

BOT, USER, CHANNEL = 1, 777, -1001234567890


def waited(gate: Gate, chat: int, now: float) -> int:
    """The retry_after of one message, 0 if it goes."""
    try:
        gate.charge(BOT, chat, now)
    except ApiError as error:
        return error.parameters["retry_after"]
    return 0


def test_a_channel_takes_twenty_messages_in_a_minute() -> None:
    gate = Gate(Floods.telegram())
    assert [waited(gate, CHANNEL, second) for second in range(20)] == [0] * 20
    assert waited(gate, CHANNEL, 20) == 40
    assert waited(gate, CHANNEL, 59.5) == 1
    assert waited(gate, CHANNEL, 60) == 0


def test_a_channel_takes_short_bursts_and_about_one_message_a_second() -> None:
    gate = Gate(Floods.telegram())
    assert [waited(gate, CHANNEL, 0) for _ in range(4)] == [0, 0, 0, 3]
    assert waited(gate, CHANNEL - 1, 0) == 0
    assert [waited(gate, CHANNEL, 3) for _ in range(4)] == [0, 0, 0, 3]
    assert [waited(gate, CHANNEL, 6 + second) for second in range(14)] == [0] * 14
    assert waited(gate, CHANNEL, 20) == 40  # the minute counts beside it


@pytest.mark.parametrize("chat", [USER, CHANNEL])
def test_an_album_is_one_call_within_a_burst_and_counts_each_item(chat: int) -> None:
    gate = Gate(Floods.telegram())
    gate.charge(BOT, chat, 0, 10)
    assert waited(gate, chat, 1) == 2
    gate.charge(BOT, chat, 3)
    for _ in range(4):
        gate.charge(BOT, chat, 3, follows=True)
    assert waited(gate, chat, 4) == 2


def test_a_bot_speaks_thirty_times_a_second_over_all_its_chats() -> None:
    gate = Gate(Floods.telegram())
    assert [waited(gate, USER + number, 0) for number in range(31)] == [0] * 30 + [1]
    assert waited(gate, USER, 1) == 0


def test_one_bots_flood_is_not_anothers() -> None:
    gate = Gate(Floods(bot=Limit(count=1, seconds=1)))
    gate.charge(1, USER, 0)
    gate.charge(2, USER, 0)
    with pytest.raises(ApiError):
        gate.charge(1, USER, 0)


def test_a_refused_message_is_not_counted() -> None:
    gate = Gate(Floods(private=Limit(count=1, seconds=10)))
    assert [waited(gate, USER, second) for second in (0, 5, 9, 10)] == [0, 5, 1, 0]


@given(st.lists(st.floats(min_value=0, max_value=5), max_size=60))
def test_whoever_waits_as_told_is_let_through(gaps: list[float]) -> None:
    window, now = Window(Limit(count=3, seconds=3)), 0.0
    for gap in gaps:
        now += gap
        wait = window.wait(now)
        now += wait
        assert window.wait(now) == 0
        window.spend(now)


@given(st.lists(st.floats(min_value=0, max_value=1), max_size=100))
def test_no_window_ever_holds_more_than_its_count(gaps: list[float]) -> None:
    window, now, passed = Window(Limit(count=5, seconds=2)), 0.0, [-9.0]
    for gap in gaps:
        now += gap
        if window.wait(now) == 0:
            window.spend(now)
            passed.append(now)
            assert sum(1 for at in passed if at > now - 2 + 1e-5) <= 5


def test_uploads_of_one_size_are_spaced_and_then_refused_for_a_minute() -> None:
    gate, size = Gate(Floods(same_size=True)), 9_000_000
    delays = [gate.space(BOT, size, 0) for _ in range(7)]
    assert delays[0] == 0  # the bucket forgives one second
    assert delays[1:3] == pytest.approx([0.8, 1.7])
    assert gate.space(BOT, size + 1, 0) == 0
    assert gate.space(BOT + 1, size, 0) == 0
    with pytest.raises(ApiError) as caught:
        gate.space(BOT, size, 0)
    assert caught.value.parameters == {"retry_after": 60}


@pytest.mark.parametrize("size", [0, 100_000])
def test_small_uploads_are_never_spaced(size: int) -> None:
    gate = Gate(Floods(same_size=True))
    assert {gate.space(BOT, size, 0) for _ in range(100)} == {0}


def test_too_many_uploads_at_once_overload_a_bot() -> None:
    gate = Gate(Floods(active_uploads=1))
    with gate.active(BOT, 10, 1) as first, gate.active(BOT, 10, 1) as second:
        assert not first
        assert not second
        with gate.active(BOT, 10, 1) as third, gate.active(BOT, 0, 0) as no_upload:
            assert third
            assert not no_upload
    with gate.active(BOT, 10, 1) as again:
        assert not again


def test_too_many_bytes_or_requests_at_once_overload_a_bot() -> None:
    gate = Gate(Floods(active_upload_bytes=100, active_requests=2))
    with gate.active(BOT, 101, 1), gate.active(BOT, 1, 1) as bytes_over, gate.active(BOT, 0, 0):
        assert bytes_over
        with gate.active(BOT, 0, 0) as requests_over:
            assert requests_over


def test_more_than_the_unsent_of_a_chat_are_refused() -> None:
    gate = Gate(Floods(unsent_per_chat=10))
    with gate.unsent(BOT, USER, 10), pytest.raises(ApiError), gate.unsent(BOT, USER, 1):
        pytest.fail("the eleventh went")
    with gate.unsent(BOT, USER, 10):
        pass


def test_twenty_new_bots_a_minute_are_admitted() -> None:
    gate = Gate(Floods.telegram())
    for _ in range(20):
        gate.admit(0)
    with pytest.raises(ApiError) as caught:
        gate.admit(15)
    assert caught.value.parameters == {"retry_after": 45}
    gate.admit(60)


def test_floods_are_off_by_default() -> None:
    gate = Gate(Floods.off())
    assert {waited(gate, CHANNEL, 0) for _ in range(1000)} == {0}


def test_idle_scopes_are_dropped() -> None:
    gate = Gate(Floods(private=Limit(count=1, seconds=1)))
    for chat in range(1, 10_002):
        gate.charge(BOT, chat, 0)
    gate.charge(BOT, 20_000, 5)
    gate.prune(5)
    assert len(gate._windows) == 1
