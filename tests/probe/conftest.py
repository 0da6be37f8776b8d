from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from telewarm.probe import Look, Probe

LookAt = Callable[[bytes], Awaitable[Look]]


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    async with Probe.open(workers=1) as probe:
        yield probe


@pytest.fixture
def look(probe: Probe, tmp_path: Path) -> LookAt:
    async def look(data: bytes) -> Look:
        path = tmp_path / "odd"
        path.write_bytes(data)
        return await probe.look(path)

    return look
