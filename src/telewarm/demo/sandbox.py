"""A sandbox in a process of its own, as demo and benchmarks want it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from telewarm.errors import TelewarmError

START = 15.0  # seconds
STOP = 5.0


class SandboxProcess:
    """`url` is its Bot API root."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    @classmethod
    @asynccontextmanager
    async def running(cls, *options: str) -> AsyncIterator[SandboxProcess]:
        """`options` are those of `telewarm sandbox`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "telewarm", "sandbox", "--port", "0", "--until-eof", *options,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            line = await asyncio.wait_for(process.stdout.readline(), START)
            if not line:
                raise TelewarmError("the sandbox did not start; try `telewarm sandbox` by itself")
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=START)) as session:
                yield cls(line.decode().split()[-1], session)
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), STOP)
                except TimeoutError:
                    process.kill()
                    await process.wait()

    async def stats(self, *, chats: bool = False) -> Mapping[str, Any]:
        """What it has seen; see `telewarm sandbox --help`. `chats`: with the messages of each chat."""
        return await self._get("/sandbox/stats", chats=str(int(chats)))

    async def uploads_of(self, file_id: str) -> int:
        """How many times the bytes behind this file id were uploaded, by whatever bot."""
        return int((await self._get("/sandbox/files", file_id=file_id))["uploads"])

    async def tell(self, what: str, **change: Any) -> None:  # noqa: ANN401 - JSON
        """POST to `/sandbox/<what>`: faults, config, chats, bots, files."""
        async with self._session.post(f"{self.url}/sandbox/{what}", json=change) as answer:
            if answer.status != 200:
                raise TelewarmError(f"the sandbox refused a change of its {what}: {await answer.text()}")

    async def _get(self, path: str, **query: str) -> Mapping[str, Any]:
        async with self._session.get(self.url + path, params=query) as answer:
            body: Mapping[str, Any] = msgspec.json.decode(await answer.read())
            return body
