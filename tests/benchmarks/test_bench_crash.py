"""The crash benchmark says what happened. The scenarios themselves: tests/crash."""

from __future__ import annotations

import pytest

from telewarm_benchmarks import crash
from telewarm_benchmarks.figures import Verdict


@pytest.mark.timeout(90)  # processes start; mostly it takes ten
async def test_it_measures_the_drain_of_a_worker_that_is_told_to_stop() -> None:
    said: list[str] = []
    plan = crash.Plan(media=40, bots=2, concurrency=2, latency_ms=100)

    figures = {figure.name: figure for figure in await crash.measure(plan=plan, only="SIGTERM", report=said.append)}

    assert said == ["SIGTERM: 40 media, 2 workers"]
    assert figures["SIGTERM: ready in the end"].value == 40
    assert figures["SIGTERM: uploaded twice"].value == 0
    assert 0 < figures["SIGTERM: drained"].value < 15
    assert all(figure.verdict is Verdict.MET for figure in figures.values())
