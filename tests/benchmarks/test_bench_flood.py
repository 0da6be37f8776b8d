"""The benchmark of flood control runs, and knows its limits. Never a test of speed."""

from __future__ import annotations

import math

import pytest

from telewarm.sandbox.config import Limit
from telewarm_benchmarks import flood
from telewarm_benchmarks.fresh_chats import fastest, measure_start


@pytest.mark.parametrize(
    ("times", "limits", "least", "most"), [(1.0, "real limits", 0.95, 0.01), (0.5, "half the limits", 0.9, 0.03)]
)
async def test_it_measures_what_passed_and_what_was_refused(
    times: float, limits: str, least: float, most: float
) -> None:
    said: list[str] = []

    share, refused = await flood.measure(
        minutes=0.04, learning=1, chats=(2,), times=(times,), fresh=0, report=said.append
    )

    assert said[:2] == [f"filling the libraries: {limits}", "sending: 0 s of 2"]
    assert share.name == f"{limits}, 2 warm-up chats: share of the ceiling"
    assert refused.name == f"{limits}, 2 warm-up chats: calls answered 429"
    assert share.beside.startswith(f"{40 * times:.0f} a minute")
    assert (share.least, refused.most) == (least, most)
    assert share.value < 30  # a burst of whole minutes, and only seconds for it
    assert times < 1 or share.value > 1
    assert 0 <= refused.value < 1


def test_limits_are_scaled_by_their_count_alone() -> None:
    assert flood.scaled(Limit(count=20, seconds=60), 0.5) == Limit(count=10, seconds=60)
    assert flood.scaled(None, 2) is None
    assert flood.per_second(Limit(count=20, seconds=60)) == 1 / 3
    assert flood.per_second(None) == math.inf


async def test_it_measures_the_start_of_fresh_chats() -> None:
    said: list[str] = []

    share, refused = await measure_start(24, report=said.append)

    assert said == ["filling the library: 24 photos for 8 fresh chats", "sending to 8 fresh chats"]
    assert share.beside.startswith("24 photos in ")
    assert (share.least, refused.most) == (0.95, 0.03)
    assert 0 < share.value < 1
    assert refused.beside.endswith(f" of {24 + int(refused.beside.split()[0])}")


def test_the_fastest_is_what_every_limit_lets_pass() -> None:
    second, minute = Limit(count=3, seconds=3), Limit(count=20, seconds=60)
    assert [fastest(count, [second, minute]) for count in (1, 3, 4, 20, 21, 40, 41)] == [0, 0, 3, 18, 60, 78, 120]
    assert fastest(40, [minute]) == 60
    assert fastest(40, []) == 0
