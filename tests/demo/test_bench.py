"""The benchmark runs end to end and counts what it says. Never a test of speed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.demo.test_showcase import command


async def test_the_warm_up_benchmark_measures_both_loops_and_keeps_its_figures(data_folder: Path) -> None:
    kept = data_folder / "figures.json"
    words = ("bench", "warmup", "--photos", "10", "--rounds", "1", "--concurrency", "3", "--save", str(kept))
    async with command(data_folder, *words) as bench:
        out, err = await bench.communicate()
        assert (bench.returncode, err.decode()) == (0, "")
    assert "media/s" in out.decode()
    figures = json.loads(kept.read_text())
    (level,) = figures["levels"]
    assert (figures["photos"], level["concurrency"]) == (10, 3)
    assert level["lane"]["per_second"] > 0
    assert level["ratio"] > 0
    assert 0 < level["p50_ms"] <= level["p95_ms"]
