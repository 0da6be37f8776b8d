"""A client of the API: in this process for most tests, over a real socket where the socket is the matter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from telewarm.runtime import Telewarm
from telewarm.server.asgi import serve_api
from telewarm.server.sockets import bind_sockets, port_of
from tests.fixtures.app import WARMUP_CHAT, Opener
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import token

ADMIN = "the-admin-token-of-the-tests"
BEARER = {"Authorization": f"Bearer {ADMIN}"}
MEDIA = "/api/admin/bots/shop/media"
SEND = "/api/admin/bots/shop/send"
BOT = {"slug": "shop", "token": token(0), "warmup_chats": [WARMUP_CHAT]}


@dataclass(frozen=True, slots=True)
class Api:
    """What a client sees, and what is behind it."""

    client: httpx.AsyncClient
    telewarm: Telewarm

    async def add_bot(self) -> None:
        assert (await self.client.post("/api/admin/bots", json=BOT)).status_code == 201

    async def add_photo(self, seed: int = 0) -> int:
        answer = await self.client.post(MEDIA, content=jpeg(seed))
        assert answer.status_code in {200, 201}, answer.text
        return int(answer.json()["media_id"])

    async def is_empty(self) -> bool:
        """Nothing in spool, store or database."""
        data = self.telewarm.settings.telewarm_data
        return not files_in(data) and not await self.telewarm.pool.fetchval("SELECT count(*) FROM media, blob")


def files_in(data: Path) -> list[Path]:
    """What was received, spooled or stored."""
    folders = [data / "spool", data / "media"]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def client_of(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000", headers=headers)


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The URL of a real server."""
    sockets, stop = bind_sockets("127.0.0.1", 0), asyncio.Event()
    url, ready = f"http://127.0.0.1:{port_of(sockets)}", asyncio.Event()
    server = asyncio.create_task(serve_api(app, sockets=sockets, stop=stop, on_ready=ready.set))
    await ready.wait()
    try:
        yield url
    finally:
        stop.set()
        await server


@pytest.fixture
async def api(telewarm_with: Opener) -> AsyncIterator[Api]:
    """With the admin token, without a worker, and with the bot `shop`."""
    telewarm = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    async with client_of(telewarm.api(), **BEARER) as client:
        api = Api(client, telewarm)
        await api.add_bot()
        yield api


@pytest.fixture
async def warming_api(telewarm_with: Opener) -> AsyncIterator[Api]:
    """As `api`, with a worker."""
    telewarm = await telewarm_with(ADMIN_API_TOKEN=ADMIN)
    async with client_of(telewarm.api(), **BEARER) as client:
        api = Api(client, telewarm)
        await api.add_bot()
        yield api


@pytest.fixture
async def without_database(telewarm_with: Opener) -> AsyncIterator[Api]:
    """An API whose database went away for good."""
    telewarm = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    async with client_of(telewarm.api(), **BEARER) as client:
        api = Api(client, telewarm)
        await api.add_bot()
        await telewarm.pool.expire_connections()
        database = telewarm_with.database_url
        name = await telewarm.pool.fetchval("SELECT current_database()")
        other = await asyncpg.connect(database.replace(f"/{name}", "/postgres"))
        await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            yield api
        finally:
            await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            await other.close()


def refusal(answer: httpx.Response, status: int, code: str) -> str:
    """The message of an error, whose shape and status are checked."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body.get("ok"), body.get("error")) == (status, False, code), answer.text
    assert answer.headers["content-type"] == "application/json"
    message = body["message"]
    assert isinstance(message, str)
    assert message
    return message
