"""The fan-out benchmark, small: bots that share a warm-up chat upload and read each file once."""

from __future__ import annotations

from telewarm_benchmarks import fanout
from telewarm_benchmarks.figures import Verdict


async def test_many_bots_upload_what_they_share_once_and_read_it_once() -> None:
    reported: list[str] = []
    found = await fanout.measure(bots=6, media=4, size=60_000, report=reported.append)

    figures = {figure.name: figure for figure in found}
    assert (figures["uploads"].value, figures["forwards"].value) == (4, 20)
    assert figures["bytes uploaded"].value == 4 * 60_000 / 1_000_000
    assert figures["reads of the store"].value == 4
    assert figures["until all are ready"].value > 0
    assert {figure.verdict for figure in found} == {Verdict.MET, Verdict.NONE}
    assert reported[-1] == "warming 24 media"
