"""The benchmark of sends runs. Never a test of speed."""

from __future__ import annotations

import pytest

from telewarm_benchmarks import rivals, send


@pytest.mark.timeout(90)  # a server starts; mostly it takes ten
async def test_it_measures_sends_beside_the_others_in_memory_and_over_http() -> None:
    plan = send.Plan(sends=40, rounds=1, concurrency=5, ids=60, requests=20)

    figures = {figure.name: figure for figure in await send.measure(plan=plan, report=lambda _: None)}

    for name in (*rivals.here(), send.OURS):
        assert figures[f"{name}: sends a second"].value > 0
    assert figures["ours beside bare aiohttp"].least == 0.75
    assert figures["telewarm's HTTP API: sends a second of one core"].least == 1000
    assert figures["sending all of them again: memory added"].value < 50


def test_the_rivals_are_the_usual_ones() -> None:
    assert rivals.here() == ["bare aiohttp", "aiogram", "python-telegram-bot"]
