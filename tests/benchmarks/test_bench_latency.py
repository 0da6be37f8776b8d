"""The benchmark of continuous parallelism runs. Never a test of speed."""

from __future__ import annotations

import pytest

from telewarm_benchmarks import latency


@pytest.mark.timeout(120)  # the waits are real, mostly it takes twenty
async def test_it_measures_a_lane_beside_the_ceiling_and_a_bare_loop() -> None:
    said: list[str] = []

    ratio, beside_bare, speed, *prompt = await latency.measure(
        photos=8, latency_ms=20, concurrency=4, rounds=1, report=said.append
    )

    assert said[:2] == ["a bare loop, 4 in flight", "a lane, 4 in flight"]
    assert len(prompt) == len(said[2:]) > 0
    assert 0 < ratio.value <= 1
    assert beside_bare.value > 0
    assert ratio.least == beside_bare.least == 0.98
    assert speed.value == pytest.approx(ratio.value * 4 / 0.02)
    assert "bare loop" in speed.beside
