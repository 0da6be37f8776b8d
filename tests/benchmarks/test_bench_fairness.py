"""The fairness benchmark, small: it runs, and counts what it says. Never a test of speed."""

from __future__ import annotations

import pytest

from telewarm_benchmarks import fairness


@pytest.mark.timeout(60)  # processes start; mostly it takes ten
async def test_the_wait_of_a_few_bots_is_measured_with_and_without_a_busy_one() -> None:
    reported: list[str] = []
    p95, p50 = await fairness.measure(
        bots=12, photos=3, spread=0.6, backlog=300, waits=(2,), rounds=1, report=reported.append
    )
    assert p95.most == 1.3
    assert min(p95.value, p50.value) > 0
    assert reported[-1] == "round 1 of 1: beside a backlog told to wait 2 s"
