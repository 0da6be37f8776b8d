"""The benchmark of the HTTP API runs. Never a test of speed."""

from __future__ import annotations

import pytest

from telewarm_benchmarks import api


@pytest.mark.timeout(60)  # two servers start; mostly it takes ten
async def test_it_measures_uploads_a_large_one_and_a_load_that_is_too_much() -> None:
    plan = api.Plan(photos=10, rounds=1, connections=2, large=3_000_000, sends=50, seconds=0.4)

    figures = {figure.name: figure for figure in await api.measure(plan=plan, report=lambda _: None)}

    assert figures["photos of 200 kB by raw, accepted and durable: a second"].value > 0
    assert figures["photos of 200 kB by multipart, accepted and durable: a second"].least == 200
    assert figures["an upload of 3 MB: memory added"].most == 64
    assert figures["an upload of 3 MB, broken off in the middle: files left"].value == 0
    assert figures["sends at 3 times what it can bear: not taken, and not refused with Retry-After"].value == 0
    assert figures["SIGTERM under that load: sent, and not answered"].value == 0
