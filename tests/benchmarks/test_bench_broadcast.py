"""The benchmark of broadcasts runs. Never a test of speed; the crashes themselves: tests/broadcast."""

from __future__ import annotations

import pytest

from telewarm_benchmarks import broadcast


@pytest.mark.timeout(60)
async def test_it_measures_how_recipients_come_in() -> None:
    seconds, memory = await broadcast.load(broadcast.Plan(rows=20_000), lambda _: None)

    assert 0 < seconds.value < 60
    assert seconds.beside == "16,000 recipients, 2,000 twice, 2,000 that are no chat"
    assert (seconds.most, memory.most) == (20, 32)


@pytest.mark.timeout(60)
async def test_it_measures_a_broadcast_beside_the_others() -> None:
    plan = broadcast.Plan(recipients=150, rounds=1, others=20, concurrency=10)

    figures = {figure.name: figure for figure in await broadcast.speed(plan, lambda _: None)}

    assert figures["a broadcast to 150: messages a second"].value > 0
    assert figures["a broadcast to 150: beside bare aiohttp"].least == 0.6
    assert figures["aiogram: messages a second"].value > 0


@pytest.mark.timeout(90)  # two workers start, and a dead one's lease runs out
async def test_it_counts_who_got_it_twice_who_not_at_all_and_who_is_unknown() -> None:
    plan = broadcast.Plan(kills=1, killed=600, concurrency=10)

    twice, lost, unknown = await broadcast.kills(plan, lambda _: None)

    assert (twice.value, lost.value) == (0, 0)
    assert 0 <= unknown.value <= 10
    assert unknown.most == 10
