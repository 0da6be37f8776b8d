from collections.abc import AsyncIterator

import pytest

from telewarm.probe import Probe


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    async with Probe.open(workers=1) as probe:
        yield probe
