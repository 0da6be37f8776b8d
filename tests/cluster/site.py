"""Two API processes and two workers on one database, each as a host of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from telewarm import clock
from telewarm.sandbox import Sandbox
from telewarm_benchmarks.processes import ONE_KEY, Server, Worker, made
from tests.fixtures.app import Opener
from tests.fixtures.media import jpeg

ADMIN = "the-admin-token-of-the-tests"
BEARER = {"Authorization": f"Bearer {ADMIN}"}
MOMENTS = 5.0  # seconds in which a process has heard of what another one did
LOOK = 0.02  # seconds between looks

Answer = dict[str, Any]


@dataclass(kw_only=True, slots=True)
class Cluster:
    """`first` and `second`: clients of the two APIs."""

    first: httpx.AsyncClient
    second: httpx.AsyncClient
    servers: tuple[Server, Server]
    workers: tuple[Worker, Worker]
    sandbox: Sandbox

    @property
    def both(self) -> tuple[httpx.AsyncClient, httpx.AsyncClient]:
        return self.first, self.second

    async def add_photo(self, client: httpx.AsyncClient, bot: str, seed: int) -> int:
        answer = await client.post(f"/api/admin/bots/{bot}/media", content=jpeg(seed))
        assert answer.status_code == 201, answer.text
        return int(answer.json()["media_id"])

    async def until_ready(self, client: httpx.AsyncClient, media_id: int) -> Answer:
        return await until(lambda: item(client, media_id), lambda found: found["state"] == "ready")


async def item(client: httpx.AsyncClient, media_id: int) -> Answer:
    answer = await client.get(f"/api/admin/media/{media_id}")
    assert answer.status_code == 200, answer.text
    found: Answer = answer.json()["media"]
    return found


async def until(look: Callable[[], Awaitable[Answer]], good: Callable[[Answer], bool]) -> Answer:
    """What is seen, once it is good. The moments are bounded: what another process did must be heard of."""
    async with asyncio.timeout(MOMENTS):
        while not good(seen := await look()):
            await clock.sleep(LOOK)
    return seen


@asynccontextmanager
async def heard(client: httpx.AsyncClient) -> AsyncIterator[list[Answer]]:
    """The events of bots and media that a listener of this API hears, from now on."""
    events: list[Answer] = []
    here = asyncio.Event()

    async def listen() -> None:
        async with client.stream("GET", "/api/admin/events", params={"types": "bot,media"}) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    here.set()
                    event = json.loads(line.removeprefix("data: "))
                    if event["type"] != "position":
                        events.append(event)

    listening = asyncio.create_task(listen())
    await here.wait()
    try:
        yield events
    finally:
        listening.cancel()
        await asyncio.wait([listening])


@asynccontextmanager
async def two_of_each(opener: Opener, folder: Path) -> AsyncIterator[Cluster]:
    """They share the database, the store and the key that seals tokens, and nothing else."""
    common = {"ADMIN_API_TOKEN": ADMIN, "TELEWARM_STORE_FOLDER": str(made(folder, "store")), **ONE_KEY}
    async with AsyncExitStack() as stack:

        def environ(name: str) -> tuple[dict[str, str], Path]:
            home = made(folder, name)
            return opener.environ(**common, TELEWARM_DATA=str(home)), home

        servers = [stack.enter_async_context(Server.running(*environ(f"api-{number}"))) for number in (1, 2)]
        workers = [stack.enter_async_context(Worker.running(*environ(f"worker-{number}"))) for number in (1, 2)]
        one, other = [await server for server in servers]
        warming, as_well = [await worker for worker in workers]
        first, second = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, headers=BEARER, timeout=30))
            for server in (one, other)
        ]
        yield Cluster(
            first=first,
            second=second,
            servers=(one, other),
            workers=(warming, as_well),
            sandbox=opener.sandbox,
        )
