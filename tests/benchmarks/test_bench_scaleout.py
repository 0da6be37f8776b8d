"""The scale-out benchmark runs end to end. Never a test of speed."""

from __future__ import annotations

import pytest

from telewarm_benchmarks import scaleout


@pytest.mark.timeout(90)  # processes start; mostly it takes ten
async def test_it_warms_the_same_library_with_one_worker_and_with_two() -> None:
    said: list[str] = []
    plan = scaleout.Plan(bots=6, photos=4, latency_ms=150, concurrency=2, held=6, rounds=1)

    ratio, one, two = await scaleout.measure(plan=plan, report=said.append)

    assert said[1:] == ["round 1 of 1: workers: 1", "round 1 of 1: workers: 2"]
    assert ratio.value == pytest.approx(two.value / one.value)
    assert ratio.most == 0.6
    assert "24 photos of 6 bots" in two.beside
