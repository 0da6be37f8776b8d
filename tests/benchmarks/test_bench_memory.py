"""The memory benchmark, small: what streams through a worker does not stay in it."""

from __future__ import annotations

import pytest

from telewarm_benchmarks import memory
from telewarm_benchmarks.figures import Verdict
from telewarm_benchmarks.memory import MB

PLAN = memory.Plan(video_bytes=20 * MB, large_bytes=150 * MB, shared=2, bots=3)
pytestmark = pytest.mark.timeout(90)  # processes start and bytes flow; mostly it takes ten


def quietly(_: str) -> None: ...


async def test_videos_that_go_up_at_once_are_not_held_in_memory() -> None:
    figure = await memory.at_once(PLAN, quietly)

    assert 0 < figure.value < 64
    assert figure.verdict is Verdict.MET


async def test_a_large_file_streams_through_a_local_server_by_path_and_by_upload() -> None:
    by_path, by_upload = await memory.large(PLAN, quietly)

    assert "by path" in by_path.name
    assert "by upload" in by_upload.name
    assert max(by_path.value, by_upload.value) < 64


async def test_the_store_is_read_once_for_all_bots() -> None:
    figure = await memory.reads(PLAN, quietly)

    assert figure.value == 1
    assert figure.beside.startswith("4 objects read")  # two videos and their thumbnails
