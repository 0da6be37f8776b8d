"""What breaks in the middle of warming: worker processes, servers and clocks; the benchmark's scenarios, small."""

from __future__ import annotations

import pytest

from telewarm_benchmarks.crash import DRAIN, SCENARIOS, TAKEOVER, Plan, Scenario, play

SMALL = Plan(media=60, bots=2, concurrency=2, latency_ms=150, away=2.0)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.timeout(90)  # processes start and leases run out; mostly it takes ten
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_all_is_ready_in_the_end_and_only_what_was_in_flight_goes_up_twice(scenario: Scenario) -> None:
    outcome = await play(scenario, SMALL)

    assert outcome.states == {"ready": SMALL.media}
    assert outcome.twice <= SMALL.in_flight
    assert outcome.complaints == ()
    assert set(outcome.exit_codes) <= {0}
    if outcome.takeover is not None:
        assert outcome.takeover <= TAKEOVER
    if outcome.drain is not None:
        assert outcome.drain <= DRAIN
        assert outcome.twice == 0
