"""`telewarm sandbox` as a process: one line when ready, a clean end at a signal."""

from __future__ import annotations

import asyncio
import re
import signal
import sys

import aiohttp
import pytest

from tests.fixtures.sandbox import token

COMMAND = (sys.executable, "-m", "telewarm", "sandbox", "--port", "0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_prints_its_address_and_stops_cleanly_at_a_signal(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--floods", "telegram", "--local", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/bot{token(0)}/getMe") as response:
            assert response.status == 200
        async with session.get(f"{url}/sandbox/config") as response:
            config = (await response.json())["config"]
            assert config["local"] is True
            assert config["floods"]["group"] == {"count": 20, "seconds": 60}
        process.send_signal(number)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")
