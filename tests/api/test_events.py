"""Live events over HTTP: from all processes, resumed in any, ended when they must, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.api import sse
from telewarm.database import events as table
from telewarm.database.tokens import Role
from telewarm.events import tail
from telewarm.models import MediaId
from telewarm.runtime import Telewarm
from telewarm.server import asgi
from tests.api.conftest import ADMIN, BEARER, Api, client_of, refusal, serving
from tests.api.governing import TOKENS, governing
from tests.database.test_events import say
from tests.fixtures.app import Opener, add_bot, add_photos, until_ready

EVENTS = "/api/admin/events"
PAGES = "/api/admin/events.json"


class Stream:
    """A client of `text/event-stream`."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> dict[str, str]:
        """The fields of the next event; none at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(10):
            async for line in self.answer.content:
                name, _, value = line.decode().rstrip("\n").partition(":")
                if name:
                    fields[name] = value.removeprefix(" ")
                elif fields:
                    return fields
        return {}

    async def sign_of_life(self) -> None:
        """A comment, which comes when nothing happens."""
        async with asyncio.timeout(10):
            while await self.answer.content.readline() != b":\n":
                assert not self.answer.content.at_eof()

    async def take(self, count: int) -> list[dict[str, Any]]:
        """The data of so many events, each of which agrees with its other fields."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            fields = await self.next()
            data = json.loads(fields["data"])
            assert (str(data["id"]), data["type"]) == (fields["id"], fields["event"])
            if data["type"] != "position":
                found.append(data)
        return found


@asynccontextmanager
async def stream(
    url: str, query: str = "", *, headers: Mapping[str, str] = BEARER, last: str | None = None
) -> AsyncIterator[Stream]:
    """It listens when this is entered: its first event says so."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        given = {**headers, **({} if last is None else {"Last-Event-ID": last})}
        answer = await stack.enter_async_context(session.get(f"{url}{EVENTS}{query}", headers=given))
        assert answer.status == 200, await answer.text()
        listening = Stream(answer)
        fields = await listening.next()
        assert (fields["event"], fields["retry"]) == ("position", "2000")
        assert json.loads(fields["data"]) == {"id": int(fields["id"]), "type": "position"}
        yield listening


@pytest.fixture
async def telewarm(telewarm_with: Opener) -> Telewarm:
    return await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)


@pytest.fixture
async def url(telewarm: Telewarm) -> AsyncIterator[str]:
    async with serving(telewarm.api()) as url:
        yield url


async def test_one_api_tells_what_another_and_a_worker_do(url: str, telewarm_with: Opener) -> None:
    other, worker = await telewarm_with(worker=False), await telewarm_with(worker=True)
    async with stream(url) as listening:
        session = await add_bot(other)
        media_id = MediaId((await add_photos(other, session, 1))[0])
        await until_ready(other, media_id)
        await worker.worker.stop()
        heard = await listening.take(4)
        while heard[-1]["type"] != "worker.status" or heard[-1]["state"] != "stopped":
            heard += await listening.take(1)
    reported = [one for one in heard if one["type"] != "worker.status"]
    assert [(one["type"], one["bot"]) for one in reported] == [
        *(("bot.changed", "bot-0"), ("media.added", "bot-0"), ("media.ready", "bot-0")),
    ]
    assert reported[2] == reported[2] | {"media_id": media_id, "kind": "photo", "state": "ready", "way": "upload"}
    assert (heard[-1]["bot"], heard[-1]["lanes"], heard[-1]["in_flight"]) == (None, 0, 0)
    assert [one["id"] for one in heard] == list(range(heard[0]["id"], heard[0]["id"] + len(heard)))


async def test_a_stream_is_told_not_to_be_kept_or_held_back(url: str) -> None:
    async with stream(url) as listening:
        headers = listening.answer.headers
    assert headers["Content-Type"].startswith("text/event-stream")
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")


async def test_a_client_goes_on_at_another_server_after_the_last_id_that_it_got(
    telewarm: Telewarm, url: str, telewarm_with: Opener
) -> None:
    other = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    async with stream(url) as listening:
        await say(telewarm.pool, 1, times=3)
        last = (await listening.take(2))[-1]["id"]
    await say(telewarm.pool, 2)
    async with serving(other.api()) as there:
        async with stream(there, last=str(last)) as again:
            assert [one["id"] - last for one in await again.take(2)] == [1, 2]
        async with stream(there, f"?last_event_id={last}") as again:
            assert [one["id"] - last for one in await again.take(2)] == [1, 2]
        async with stream(there, f"?last_event_id={last}", last=str(last + 1)) as again:  # a browser that comes back
            assert [one["id"] - last for one in await again.take(1)] == [2]
        await table.trim(telewarm.pool, max_age_seconds=0)
        async with stream(there, last="0") as late:
            assert [(one["type"], one["id"]) for one in await late.take(1)] == [("reset", last + 2)]


async def test_bots_and_types_are_chosen_and_what_is_passed_over_moves_the_place(
    telewarm: Telewarm, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "HEARTBEAT_SECONDS", 0.05)
    for number in range(2):
        await add_bot(telewarm, number)
    async with stream(url, "?bot=bot-0&types=media.added,broadcast", last="0") as listening:
        for number in (1, 0):
            await add_photos(telewarm, await telewarm.bots.by_slug(f"bot-{number}"), 1, first=number)
        [added] = await listening.take(1)
        assert (added["type"], added["bot"]) == ("media.added", "bot-0")
        await say(telewarm.pool, 1, times=5)
        fields = await listening.next()
        assert (fields["event"], int(fields["id"])) == ("position", added["id"] + 5)
        await listening.sign_of_life()


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("?bot=nobody", 404, "no bot has the slug"),
        ("?types=media.redy", 400, "there are media.added"),
        ("?last_event_id=x", 400, "Last-Event-ID"),
        ("?last_event_id=-1", 400, "Last-Event-ID"),
        (f"?last_event_id={2**63}", 400, "Last-Event-ID"),
        ("?last_event_id=" + "9" * 5000, 400, "Last-Event-ID"),
        ("?bot=%00", 404, "no bot"),
        ("?bot=,", 400, "bot is empty"),
        ("?types=%20", 400, "types is empty"),
    ],
)
async def test_what_cannot_be_is_refused(api: Api, query: str, status: int, words: str) -> None:
    assert words in refusal(
        await api.client.get(EVENTS + query), status, {400: "BAD_REQUEST", 404: "NOT_FOUND"}[status]
    )


async def test_whoever_may_read_may_listen_until_the_token_is_revoked(
    telewarm: Telewarm, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(sse, "TOKEN_RECHECK_SECONDS", 0.0)
    async with governing(telewarm) as governed:
        secret = await governed.make("page", Role.READ)
        refusal(await (await governed.client(None)).get(EVENTS), 401, "UNAUTHORIZED")
        async with stream(url, headers={"Authorization": f"Bearer {secret}"}) as page, stream(url) as admin:
            await say(telewarm.pool, 1)
            assert len(await page.take(1)) == 1
            assert (await governed.admin.delete(f"{TOKENS}/page")).status_code == 200
            assert await page.next() == {}
            await say(telewarm.pool, 1)
            assert len(await admin.take(2)) == 2


async def test_a_server_that_stops_ends_its_streams_at_once(
    telewarm: Telewarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "GRACE_SECONDS", 3600)
    app = telewarm.api()
    async with AsyncExitStack() as clients:
        async with serving(app) as url:
            listening = [await clients.enter_async_context(stream(url)) for _ in range(3)]
        assert [await one.next() for one in listening] == [{}] * 3
    async with client_of(app, **BEARER) as client:
        answer = await client.get(EVENTS)
    refusal(answer, 503, "STOPPING")


async def test_one_more_than_may_listen_is_told_to_come_later(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN, TELEWARM_EVENT_LISTENERS="2")
    async with serving(telewarm.api()) as url, httpx.AsyncClient(base_url=url, headers=BEARER) as client:
        async with stream(url):
            async with stream(url):
                answer = await client.get(EVENTS)
                assert "TELEWARM_EVENT_LISTENERS" in refusal(answer, 503, "TOO_MANY_LISTENERS")
                assert answer.headers["Retry-After"] == "10"
            await until_listen(telewarm, 1)
            async with stream(url):
                pass
        await until_listen(telewarm, 0)


async def until_listen(telewarm: Telewarm, listeners: int) -> None:
    """Those who came and those who left are noticed."""
    async with asyncio.timeout(10):
        while telewarm.event_bus.listeners != listeners:
            await clock.sleep(0)


async def test_a_client_that_takes_nothing_is_cut_off_and_hinders_nobody(
    telewarm: Telewarm, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(tail, "READ_PAUSE_SECONDS", 0.0)
    at = urlsplit(url)
    with socket.socket() as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().run_in_executor(None, idle.connect, (at.hostname, at.port))
        idle.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode())
        async with stream(url) as quick:
            await until_listen(telewarm, 2)
            sent = 0
            while telewarm.event_bus.listeners == 2:
                await say(telewarm.pool, sent, times=400)
                sent += 400
                await quick.take(400)
        assert sent < 100_000
        async with asyncio.timeout(10):  # what was sent before is still there to be read, and then nothing comes
            while await asyncio.to_thread(idle.recv, 1 << 16):
                pass


OUTAGE = """
CREATE FUNCTION sequence_events() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the server goes down' USING ERRCODE = '57P01';
END $$
"""


async def test_a_database_that_goes_away_ends_nothing_and_what_happened_comes_when_it_is_back(
    telewarm: Telewarm, url: str
) -> None:
    async with stream(url) as listening:
        await telewarm.pool.execute("ALTER FUNCTION sequence_events RENAME TO kept")
        await telewarm.pool.execute(OUTAGE)
        with capture_logs() as logged:
            await say(telewarm.pool, 1)
            async with asyncio.timeout(10):
                while not logged:
                    await clock.sleep(0)
        assert logged[0]["event"] == "events_read_failed"
        await telewarm.pool.execute("DROP FUNCTION sequence_events")
        await telewarm.pool.execute("ALTER FUNCTION kept RENAME TO sequence_events")
        await say(telewarm.pool, 2)
        assert [one["said"] for one in await listening.take(2)] == [1, 2]


async def test_pages_lead_on_from_where_one_began(api: Api) -> None:
    begin = (await api.client.get(PAGES)).json()
    assert begin == {"ok": True, "events": [], "next": 1, "reset": False}
    await api.add_photo()
    await say(api.telewarm.pool, 1, times=5)
    page = (await api.client.get(PAGES, params={"after": begin["next"], "limit": 2})).json()
    assert [one["type"] for one in page["events"]] == ["media.added", "worker.status"]
    assert (page["next"], page["events"][-1]["id"], page["reset"]) == (3, 3, False)
    media = (await api.client.get(PAGES, params={"after": 0, "types": "media", "bot": "shop"})).json()
    assert [(one["id"], one["bot"]) for one in media["events"]] == [(2, "shop")]
    assert media["next"] == 7
    await table.trim(api.telewarm.pool, max_age_seconds=0)
    lost = (await api.client.get(PAGES, params={"after": 1})).json()
    assert lost == {"ok": True, "events": [], "next": 7, "reset": True}


@pytest.mark.parametrize(
    "query", ["?after=-1", "?after=x", f"?after={2**63}", "?limit=0", "?limit=1001", "?bot=", "?types="]
)
async def test_a_page_that_cannot_be_is_refused(api: Api, query: str) -> None:
    refusal(await api.client.get(PAGES + query), 422, "BAD_REQUEST")


async def test_what_events_are_is_documented(api: Api) -> None:
    described = (await api.client.get("/openapi.json")).json()["paths"][EVENTS]["get"]
    assert "media.ready" in described["responses"]["200"]["content"]["text/event-stream"]["example"]
    assert {"bot", "types", "last_event_id", "Last-Event-ID"} == {one["name"] for one in described["parameters"]}
