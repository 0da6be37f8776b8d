"""Whatever Schemathesis makes out of the OpenAPI is answered as the OpenAPI says."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import requests

from tests.api.conftest import ADMIN, BEARER, BOT
from tests.api.hunt import Hunt
from tests.cli.test_serve import serving
from tests.fixtures.app import Opener
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import token

ALL = "/api/admin"
MEDIA = (17, 18, 4711, 4712)
AFTER_SENDING = {f"POST {ALL}/broadcasts/{{broadcast_id}}/{word}" for word in ("undo", "retry", "retry-unknown")}
AFTER_WARMING = {f"GET {ALL}/media/{{media_id}}/file-id"}
NEXT = "SELECT setval(pg_get_serial_sequence($1, 'id'), $2, false)"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.heavy)])
async def test_every_answer_is_as_documented_and_what_fits_is_taken(
    telewarm_with: Opener, tmp_path: Path, *, small: bool
) -> None:
    async with serving(tmp_path, "--no-worker", **telewarm_with.environ(ADMIN_API_TOKEN=ADMIN)) as serve:
        with requests.Session() as session:
            hunt = Hunt(url=serve.url, session=session, small=small)
            async with aiohttp.ClientSession(serve.url, headers=BEARER) as client:
                for operation in hunt.operations():
                    await furnish(client, telewarm_with.database_url)
                    await asyncio.to_thread(hunt.ask, operation)
        assert await serve.end(signal.SIGTERM) == 0
    assert not hunt.found, "\n\n".join(hunt.found.values())
    assert sum(hunt.answers.values()) > (600 if small else 2000)
    answered = {label for label, _ in hunt.answers}
    assert answered - {label for label, status in hunt.answers if status < 300} == AFTER_SENDING | AFTER_WARMING
    assert "Traceback" not in serve.said
    assert "unhandled_exception" not in serve.said


async def furnish(client: aiohttp.ClientSession, database_url: str) -> None:
    """What the examples of the OpenAPI name is there, whatever was deleted before."""
    for number, slug in enumerate(("shop", "news")):
        await post(client, "/bots", json={**BOT, "slug": slug, "token": token(number)})
        await post(client, f"/bots/{slug}/undelete")
    await post(client, "/tokens", json={"name": "grafana", "role": "read"})
    database = await asyncpg.connect(database_url)
    try:
        for media_id in await missing(database, "media", *MEDIA):
            await database.execute(NEXT, "media", media_id)
            await post(client, "/bots/shop/media", data=jpeg(media_id))
        await database.execute(NEXT, "media", 1 + await database.fetchval("SELECT max(id) FROM media"))
        for broadcast_id in await missing(database, "broadcast", 1):
            await database.execute(NEXT, "broadcast", broadcast_id)
            await post(client, "/broadcasts", json={"bot": "shop", "message": {"text": "so"}})
            await post(client, f"/broadcasts/{broadcast_id}/recipients", data=b"500000001\n500000002\nAna\n")
        await database.execute(NEXT, "broadcast", 1 + await database.fetchval("SELECT max(id) FROM broadcast"))
    finally:
        await database.close()


async def missing(database: asyncpg.Connection[asyncpg.Record], table: str, *ids: int) -> list[int]:
    there = await database.fetch(f"SELECT id FROM {table} WHERE id = ANY($1)", ids)  # noqa: S608 - one of ours
    return sorted(set(ids) - {row["id"] for row in there})


async def post(client: aiohttp.ClientSession, path: str, **body: Any) -> None:  # noqa: ANN401 - as aiohttp takes it
    async with client.post(ALL + path, **body) as answer:
        assert answer.status in {200, 201, 409}, f"{path}: {await answer.text()}"
