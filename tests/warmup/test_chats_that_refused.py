"""Warm-up chats that refused are avoided for a while, as long as there is another one."""

from __future__ import annotations

from telewarm.bots.chat_faults import FAULT_SECONDS, ChatFaults
from telewarm.models import ChatId, Kind

ONE, OTHER = ChatId(-1), ChatId(-2)
BOTH = (ONE, OTHER)


def test_a_chat_that_refused_a_kind_takes_the_others() -> None:
    faults = ChatFaults()
    assert faults.usable(BOTH, Kind.PHOTO, now=0) == BOTH
    faults.note(ONE, Kind.PHOTO, now=0)
    assert faults.usable(BOTH, Kind.PHOTO, now=1) == (OTHER,)
    assert faults.usable(BOTH, Kind.VIDEO, now=1) == BOTH


def test_where_all_chats_refused_each_is_tried_again() -> None:
    faults = ChatFaults()
    for chat_id in BOTH:
        faults.note(chat_id, None, now=0)
    assert not faults.any_usable(BOTH, Kind.PHOTO, now=1)
    assert faults.usable(BOTH, Kind.PHOTO, now=1) == BOTH


def test_a_fault_ends_with_its_time_or_when_it_is_cleared() -> None:
    faults = ChatFaults()
    faults.note(ONE, None, now=0)
    assert faults.any_usable((ONE,), Kind.PHOTO, now=FAULT_SECONDS)
    faults.clear()
    assert faults.any_usable((ONE,), Kind.PHOTO, now=1)
