"""The benchmarks of the queue run, small: their figures are there and make sense."""

from __future__ import annotations

from telewarm_benchmarks import churn, claims


async def test_the_cost_of_each_statement_is_compared_and_small_photos_go_first() -> None:
    said: list[str] = []

    figures = await claims.measure(few=50, many=500, rounds=3, mixed=150, report=said.append)

    names = {figure.name.split(":")[0] for figure in figures}
    assert {"claim", "record_ready", "record_failed", "insert", "forget", "rewarm", "counts", "depths"} <= names
    assert all(figure.value > 0 for figure in figures)
    assert figures[-1].value >= 2, figures[-1]
    assert said


async def test_a_simulated_day_warms_over_and_over_and_the_sizes_are_compared() -> None:
    said: list[str] = []

    figures = await churn.measure(warmups=2000, items=200, bots=4, slices=40, report=said.append)

    named = {figure.name: figure.value for figure in figures}
    assert any(name.startswith("media: indexes") for name in named)
    assert any(name.startswith("pgqueuer_log: rows") for name in named)
    assert all(value > 0 for value in named.values())
    assert any("2,000 warm-ups" in figure.beside for figure in figures)
