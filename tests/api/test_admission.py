"""More than a process can bear: it says so at once, to those who ask for it, and does well what it has taken."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.api import concurrency_limiter
from telewarm.api.concurrency_limiter import (
    LOOP_LAG_HIGH_SECONDS,
    LOOP_LAG_LOW_SECONDS,
    MAX_LIMIT,
    MIN_LIMIT,
    AdaptiveConcurrencyLimiter,
    RequestClass,
    class_of,
    next_limit,
)
from telewarm.sandbox.faults import Rule
from telewarm.server import asgi
from telewarm.server.asgi import serve_api
from telewarm.server.sockets import bind_sockets, port_of
from tests.api.conftest import ADMIN, BEARER, BOT, MEDIA, SEND, Api, client_of, refusal
from tests.fixtures.app import READER, Opener
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import token

TEXT = {"chat_id": READER, "text": "hello"}
FEW = 2  # places: so few never become more


@pytest.mark.parametrize(
    ("places", "late", "busiest", "after"),
    [
        (MAX_LIMIT, LOOP_LAG_HIGH_SECONDS * 1.25, MAX_LIMIT, int(MAX_LIMIT * 0.8)),
        (MAX_LIMIT, LOOP_LAG_HIGH_SECONDS * 9, MAX_LIMIT, MAX_LIMIT // 2),
        (MAX_LIMIT, LOOP_LAG_HIGH_SECONDS * 1.25, 200, 160),  # at once below what is there
        (MAX_LIMIT, LOOP_LAG_HIGH_SECONDS * 2, 3, MIN_LIMIT),
        (MIN_LIMIT, LOOP_LAG_HIGH_SECONDS * 9, MIN_LIMIT, MIN_LIMIT),
        (100, (LOOP_LAG_HIGH_SECONDS + LOOP_LAG_LOW_SECONDS) / 2, 100, 100),
        (100, 0.0, 0, 125),
        (MAX_LIMIT, 0.0, 0, MAX_LIMIT),
    ],
)
def test_there_are_fewer_places_while_the_loop_is_late_and_more_when_it_is_not(
    places: int, late: float, busiest: int, after: int
) -> None:
    assert next_limit(places, lag=late, peak=busiest) == after


@pytest.mark.parametrize(
    ("method", "path", "work"),
    [
        ("POST", SEND, RequestClass.SEND),
        ("POST", MEDIA, RequestClass.UPLOAD),
        ("POST", f"{MEDIA}/batch", RequestClass.UPLOAD),
        ("POST", "/api/admin/broadcasts/7/recipients", RequestClass.UPLOAD),
        ("GET", MEDIA, RequestClass.OTHER),
        ("DELETE", "/api/admin/media/7", RequestClass.OTHER),
        ("GET", "/metrics", None),
        ("GET", "/healthz", None),
        ("POST", "/metrics/bots/x/send", RequestClass.SEND),
    ],
)
def test_each_work_has_places_of_its_own_and_an_operator_can_always_look(
    method: str, path: str, work: RequestClass | None
) -> None:
    assert class_of(method, path) is work


async def test_a_loop_that_is_held_up_has_fewer_places_and_soon_as_many_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    monkeypatch.setattr(concurrency_limiter, "SAMPLE_INTERVAL_SECONDS", 0.0)
    one = AdaptiveConcurrencyLimiter()
    place = one.acquire(RequestClass.SEND)
    assert place is not None

    for _ in range(concurrency_limiter.SAMPLES_PER_ADJUSTMENT):
        now += 10 * LOOP_LAG_HIGH_SECONDS
        await clock.sleep(0)
        await clock.sleep(0)
    late = one.limit
    await until(lambda: one.limit == MAX_LIMIT)  # time stands still, and nothing is late
    place.release()

    assert late == MIN_LIMIT
    assert one.in_flight[RequestClass.SEND] == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """An API on a real socket, by the command line's own server, with `FEW` places."""

    client: httpx.AsyncClient
    places: AdaptiveConcurrencyLimiter
    port: int
    stop: Callable[[], Awaitable[None]]


@asynccontextmanager
async def served(opener: Opener, *, bots: int = 1, places: int = FEW) -> AsyncIterator[Served]:
    telewarm = await opener(worker=False, ADMIN_API_TOKEN=ADMIN)
    app = telewarm.api()
    sockets, stop, ready = bind_sockets("127.0.0.1", 0), asyncio.Event(), asyncio.Event()
    port = port_of(sockets)
    server = asyncio.create_task(serve_api(app, sockets=sockets, stop=stop, on_ready=ready.set))
    await ready.wait()

    async def end() -> None:
        stop.set()
        await server

    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=BEARER, timeout=20) as client:
            for number in range(bots):
                bot = BOT | {"slug": f"shop{number or ''}", "token": token(number)}
                assert (await client.post("/api/admin/bots", json=bot)).status_code == 201
            app.state.admission.limit = places
            yield Served(client=client, places=app.state.admission, port=port, stop=end)
    finally:
        await end()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await clock.sleep(0.005)


@asynccontextmanager
async def sending(opener: Opener, served: Served, count: int, *, seconds: float) -> AsyncIterator[list[httpx.Response]]:
    """So many sends whose answers Telegram keeps back, from when they are under way until they are answered."""
    opener.sandbox.state.faults.add(Rule(action="hang", method="sendMessage", seconds=seconds, count=count))
    answers: list[httpx.Response] = []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(served.client.post(SEND, json=TEXT)) for _ in range(count)]
        await until(lambda: served.places.in_flight[RequestClass.SEND] == count)
        yield answers
    answers += [task.result() for task in tasks]


async def test_what_is_too_many_is_refused_at_once_and_other_work_goes_on(telewarm_with: Opener) -> None:
    async with served(telewarm_with) as api:
        with capture_logs() as logged:
            async with sending(telewarm_with, api, FEW, seconds=0.6) as answers:
                answer = await api.client.post(SEND, json=TEXT)
                assert "ask again in" in refusal(answer, 503, "OVERLOADED")
                assert int(answer.headers["retry-after"]) in range(1, 4)
                assert (await api.client.post(MEDIA, content=jpeg(1))).status_code == 201
                assert (await api.client.get(MEDIA)).status_code == 200
                assert not answers
        assert [one.status_code for one in answers] == [200] * FEW
        assert (await api.client.post(SEND, json=TEXT)).status_code == 200
        shown = (await api.client.get("/metrics")).text
    assert 'telewarm_http_requests_rejected_total{class="send"}' in shown
    assert telewarm_with.sandbox.state.stats.total.calls["sendMessage"] == FEW + 1
    [reported] = [one for one in logged if one["event"] == "requests_rejected"]
    assert (reported["refused"], reported["sends"], reported["places"]) == (1, FEW, FEW)


async def test_a_refused_upload_leaves_its_connection_whole_and_nothing_on_disk(telewarm_with: Opener) -> None:
    """The body is passed over, so that the client reads its answer, and goes on over the same connection."""
    body = b"x" * (3 << 20)
    head = f"POST {MEDIA} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {ADMIN}\r\n"
    async with served(telewarm_with) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        api.places.limit = 0
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert await answer_of(reader) == (503, "OVERLOADED")
        api.places.limit = FEW
        writer.write(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        assert await answer_of(reader) == (400, "BAD_REQUEST")
        assert await reader.read() == b""
        writer.close()
    assert not [path for path in (telewarm_with.data / "spool").rglob("*") if path.is_file() and path.suffix != ".lock"]


async def test_what_is_no_request_keeps_no_place(telewarm_with: Opener) -> None:
    async with served(telewarm_with) as api:
        for head in ("GET http://[ HTTP/1.1\r\n", "GET //:x HTTP/1.1\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(f"{head}Host: h\r\n\r\n".encode())
            assert b" 40" in await reader.readline()
            writer.close()
        await until(lambda: not any(api.places.in_flight.values()))


async def test_who_waits_for_leave_to_send_a_body_is_refused_and_cut_off(telewarm_with: Opener) -> None:
    async with served(telewarm_with, places=0) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(f"POST {MEDIA} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode())
        assert await answer_of(reader) == (503, "OVERLOADED")
        assert await reader.read() == b""
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))["error"]


async def test_a_bot_that_must_wait_takes_no_place_from_others(telewarm_with: Opener) -> None:
    flood = Rule(action="error", method="sendMessage", bot=int(token(0).partition(":")[0]), code=429, retry_after=1)
    async with served(telewarm_with, bots=2, places=1) as api:
        telewarm_with.sandbox.state.faults.add(flood)
        waiting = asyncio.create_task(api.client.post(SEND, json=TEXT))
        await until(lambda: api.places.idle == 1)
        others = SEND.replace("shop", "shop1")
        assert (await api.client.post(others, json=TEXT)).status_code == 200
        assert not waiting.done()
        assert (await waiting).status_code == 200
        assert api.places.idle == 0


async def test_a_client_that_stands_still_takes_no_place_from_others(telewarm_with: Opener) -> None:
    photo = jpeg(1)

    async def slowly() -> AsyncIterator[bytes]:
        yield photo[:100]
        await until(lambda: api.places.idle == 1)
        assert (await api.client.post(MEDIA, content=jpeg(2))).status_code == 201
        yield photo[100:]

    async with served(telewarm_with, places=1) as api:
        assert (await api.client.post(MEDIA, content=slowly())).status_code == 201
        assert (api.places.idle, api.places.in_flight[RequestClass.UPLOAD]) == (0, 0)


async def test_uploads_that_wait_for_the_disk_or_the_database_are_bounded_too(
    telewarm_with: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency_limiter, "MAX_RECEIVED", 1)
    async with served(telewarm_with, places=8) as api:
        blocker = await asyncpg.connect(telewarm_with.database_url)
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE media IN ACCESS EXCLUSIVE MODE")
            first = asyncio.create_task(api.client.post(MEDIA, content=jpeg(1)))
            await until(lambda: api.places.received == 1)
            refusal(await api.client.post(MEDIA, content=jpeg(2)), 503, "OVERLOADED")
        await blocker.close()
        assert (await first).status_code == 201
        assert (await api.client.post(MEDIA, content=jpeg(2))).status_code == 201
        assert api.places.received == 0


async def test_without_the_door_the_route_refuses_too(api: Api) -> None:
    app = api.telewarm.api()
    app.state.admission.limit = 0
    async with client_of(app, **BEARER) as client:
        refusal(await client.get(MEDIA), 503, "OVERLOADED")
        assert (await client.get("/readyz")).status_code == 200


async def test_what_was_accepted_is_finished_when_the_process_stops(telewarm_with: Opener) -> None:
    async with served(telewarm_with, places=8) as api, sending(telewarm_with, api, 8, seconds=0.5) as answers:
        await api.stop()
    assert [one.status_code for one in answers] == [200] * 8


async def test_what_cannot_be_finished_in_time_is_told_so(
    telewarm_with: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "GRACE_SECONDS", 0.2)
    async with served(telewarm_with) as api:
        with capture_logs() as logged:
            async with sending(telewarm_with, api, FEW, seconds=9) as answers:
                began = clock.monotonic()
                await api.stop()
                took = clock.monotonic() - began
    for answer in answers:
        assert "Idempotency-Key" in refusal(answer, 503, "STOPPING")
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert took < 5
    assert not [one for one in logged if one["log_level"] in {"error", "critical"}]


async def test_an_answer_that_nobody_takes_does_not_hold_up_the_end(
    telewarm_with: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(asgi, "GRACE_SECONDS", 0.2)
    async with served(telewarm_with) as api:
        body = os.urandom(16 << 20)
        put = await api.client.post(f"{MEDIA}?kind=document", content=body)
        path = f"/api/media/preview/{put.json()['media_id']}"
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode())
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        began = clock.monotonic()
        await api.stop()
        took = clock.monotonic() - began
        assert len(await reader.read()) < len(body)
        writer.close()
    assert took < 5
    assert not [one for one in caplog.records if one.name == "uvicorn.error" and one.levelname == "ERROR"]
