"""The benchmark of live events runs. Never a test of speed."""

from __future__ import annotations

import pytest

from telewarm_benchmarks import events


@pytest.mark.timeout(60)  # a server starts; mostly it takes five
async def test_it_measures_idle_listeners_the_way_of_an_event_and_many_at_once() -> None:
    plan = events.Plan(listeners=5, idle=0.1, timed=3, burst=100)

    figures = {figure.name: figure for figure in await events.measure(plan=plan, report=lambda _: None)}

    idle = figures["5 listeners while nothing happens: CPU of the server, of one core"]
    assert (idle.most, idle.unit) == (1.0, "%")
    assert (
        0 < figures["from a change to one listener, p50"].value <= figures["from a change to one listener, p95"].value
    )
    assert figures["from a change to 5 listeners, p95"].most == 250
    assert figures["100 changes as fast as they go, 5 listening: events told a second"].value > 0
