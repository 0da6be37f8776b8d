"""A request's id goes wherever the request goes, and each request is one line in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import structlog
from fastapi import FastAPI
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from structlog.typing import EventDict

from telewarm.api.middleware.access_log import request_id_of
from telewarm.models import MediaId
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.api.conftest import BEARER, BOT, MEDIA, SEND, Api, client_of, refusal
from tests.api.governing import AUDIT
from tests.fixtures.app import READER, until_ready
from tests.fixtures.media import jpeg

ID = {"X-Request-Id": "order-4711.a"}
Lines = list[EventDict]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged, with what the context adds to it."""
    with capture_logs(processors=[merge_contextvars]) as logged:
        yield logged


def access(lines: Lines) -> Lines:
    return [line for line in lines if line["event"] == "http_request"]


@pytest.mark.parametrize("given", ["a", "4bf92f35-77b3", "Root=1-67891233-abcdef", "A/b+c=@~_", "x" * 128])
def test_a_sane_id_is_kept(given: str) -> None:
    assert request_id_of({"headers": [(b"x-request-id", given.encode())]}) == given


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "a b", "a\nb", "é", '"', "1:x", "\x1b[31m", "tw_" + "x" * 43, "123456:AAE-secret"]
)
def test_another_is_replaced(given: str) -> None:
    made = request_id_of({"headers": [(b"x-request-id", given.encode())]})
    assert len(made) == 16
    assert made != request_id_of({"headers": []})


async def test_a_request_is_one_line_and_its_id_goes_with_everything(api: Api, lines: Lines) -> None:
    body = jpeg(1)
    answer = await api.client.post(MEDIA, content=body, headers=ID)

    assert answer.headers["x-request-id"] == "order-4711.a"
    [line] = access(lines)
    assert line.pop("ms") >= 0
    assert line == {
        "event": "http_request",
        "log_level": "info",
        "request_id": "order-4711.a",
        "method": "POST",
        "route": "/api/admin/bots/{slug}/media",
        "status": 201,
        "bytes_in": len(body),
        "bytes_out": len(answer.content),
        "actor": "ADMIN_API_TOKEN",
    }
    newest = (await api.client.get(AUDIT)).json()["changes"][0]
    assert (newest["request_id"], newest["status"]) == ("order-4711.a", 201)


async def test_a_request_without_an_id_gets_one_of_its_own(api: Api, lines: Lines) -> None:
    ids = [(await api.client.get(MEDIA)).headers["x-request-id"] for _ in range(2)]
    assert len(set(ids)) == 2
    assert [line["request_id"] for line in access(lines)] == ids


async def test_who_is_refused_is_logged_by_path_without_its_secrets(api: Api, lines: Lines) -> None:
    async with client_of(api.telewarm.api()) as stranger:
        answer = await stranger.get("/api/admin/123456789%3AAAE-a_token_that_nobody_may_see?token=hunter2", headers=ID)
    assert answer.headers["x-request-id"] == "order-4711.a"
    [line] = access(lines)
    assert (line["status"], line["actor"], line["route"]) == (401, None, "(no route)")
    assert line["path"] == "/api/admin/123456789:<token>"


async def test_probes_are_for_debugging(api: Api, lines: Lines) -> None:
    for path in ("/healthz", "/readyz", "/health", "/metrics"):
        assert (await api.client.get(path)).status_code == 200
    assert [line["log_level"] for line in access(lines)] == ["debug"] * 4


def with_route(api: Api, route: Callable[[], object]) -> FastAPI:
    app = api.telewarm.api()
    app.get("/test")(route)
    return app


async def test_tasks_that_a_request_starts_log_under_its_id(api: Api, lines: Lines) -> None:
    async def say() -> None:
        structlog.get_logger().info("from a task")

    async def route() -> None:
        await asyncio.create_task(say())

    async with client_of(with_route(api, route), **BEARER) as client:
        await client.get("/test", headers=ID)
    assert [line["request_id"] for line in lines] == ["order-4711.a"] * 2


async def test_a_worker_that_a_request_starts_is_not_that_requests(api: Api, lines: Lines) -> None:
    started = await api.client.post("/api/admin/media/prewarm/start", headers=ID)
    assert started.json()["changed"] is True
    await until_ready(api.telewarm, MediaId(await api.add_photo()))
    await api.telewarm.worker.stop()
    [warmed] = [line for line in lines if line["event"] == "warmup_started"]
    assert "request_id" not in warmed


async def test_what_is_our_fault_names_the_id_that_the_log_has_it_under(
    api: Api, sandbox: Sandbox, lines: Lines
) -> None:
    async def bug() -> None:
        raise RuntimeError("so")

    sandbox.state.faults.add(Rule(action="error", code=500, description="Internal", method="sendMessage"))
    async with client_of(with_route(api, bug), **BEARER, **ID) as client:
        failed = [
            await client.get("/test"),
            await client.post(SEND, json={"chat_id": READER, "text": "so"}),
        ]
        refused = await client.post("/api/admin/bots", json=BOT)
    assert [answer.status_code for answer in failed] == [500, 502]
    assert all(answer.json()["request_id"] == "order-4711.a" for answer in failed)
    assert {line["request_id"] for line in lines if line["log_level"] in {"error", "warning"}} == {"order-4711.a"}
    refusal(refused, 409, "CONFLICT")
    assert "request_id" not in refused.json()
