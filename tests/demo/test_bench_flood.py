"""The benchmark of flood control runs, and knows its limits. Never a test of speed."""

from __future__ import annotations

import math

import pytest

from telewarm.demo.bench import flood
from telewarm.sandbox.config import Limit


@pytest.mark.parametrize(
    ("times", "limits", "least", "most"), [(1.0, "real limits", 0.95, 0.01), (0.5, "half the limits", 0.9, 0.03)]
)
async def test_it_measures_what_passed_and_what_was_refused(
    times: float, limits: str, least: float, most: float
) -> None:
    said: list[str] = []

    share, refused = await flood.measure(minutes=0.04, learning=1, chats=(2,), times=(times,), report=said.append)

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
