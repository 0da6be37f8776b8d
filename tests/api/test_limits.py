"""What a caller may cost before it is let in: wrong tokens, headers, time, depth of JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.api import request_limits
from telewarm.api.error_responses import HttpError, register_exception_handlers
from telewarm.api.middleware.auth import AuthMiddleware
from telewarm.api.request_limits import (
    FAILED_ATTEMPT_WINDOW_SECONDS,
    MAX_FAILED_ATTEMPTS,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_JSON_DEPTH,
    FailedAuthLimiter,
    client_network,
    exceeds_json_depth,
    limit_body_time,
    read_limited_body,
)
from tests.api.conftest import ADMIN, client_of, refusal

Client = Callable[[str, str], Awaitable[httpx.Response]]


def small_app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(AuthMiddleware, token=ADMIN)

    @app.get("/api/admin/x")
    async def x() -> dict[str, bool]:
        return {"ok": True}

    return app


@pytest.fixture
def call() -> Client:
    """A call with a token from an address."""
    app = small_app()

    async def call(token: str, address: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(address, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/api/admin/x", headers={"Authorization": f"Bearer {token}"})

    return call


def shut_out(throttle: FailedAuthLimiter, address: str, now: float) -> bool:
    try:
        throttle.check(address, now)
    except HttpError:
        return True
    return False


async def test_after_ten_wrong_tokens_an_address_is_shut_out_and_others_are_not(call: Client) -> None:
    guess = "a-guess-that-nobody-may-read"
    with capture_logs() as logged:
        for _ in range(MAX_FAILED_ATTEMPTS):
            refusal(await call(guess, "203.0.113.7"), 401, "UNAUTHORIZED")
    assert [one["event"] for one in logged] == ["failed_auth_limited"] * MAX_FAILED_ATTEMPTS
    assert guess not in str(logged)
    answer = await call(guess, "203.0.113.7")
    assert "try again in" in refusal(answer, 429, "TOO_MANY_ATTEMPTS")
    assert 1 <= int(answer.headers["retry-after"]) <= FAILED_ATTEMPT_WINDOW_SECONDS + 1
    refusal(await call(guess, "203.0.113.8"), 401, "UNAUTHORIZED")


async def test_whatever_others_of_an_address_try_the_right_token_is_never_shut_out(call: Client) -> None:
    for _ in range(3 * MAX_FAILED_ATTEMPTS):
        assert (await call("a-guess-that-nobody-may-read", "203.0.113.7")).status_code in {401, 429}
        assert (await call(ADMIN, "203.0.113.7")).status_code == 200


async def test_right_tokens_and_none_at_all_are_not_counted(call: Client) -> None:
    app = small_app()
    async with client_of(app) as client:
        for _ in range(3 * MAX_FAILED_ATTEMPTS):
            refusal(await client.get("/api/admin/x"), 401, "UNAUTHORIZED")
    for _ in range(3 * MAX_FAILED_ATTEMPTS):
        assert (await call(ADMIN, "203.0.113.7")).status_code == 200


def test_the_address_may_try_again_when_the_time_is_over_and_attempts_meanwhile_do_not_lengthen_it() -> None:
    throttle = FailedAuthLimiter()
    assert [throttle.record_failure("203.0.113.7", 100.0 + n) for n in range(MAX_FAILED_ATTEMPTS)] == [False] * (
        MAX_FAILED_ATTEMPTS - 1
    ) + [True]
    assert shut_out(throttle, "203.0.113.7", 159.9)
    assert not shut_out(throttle, "203.0.113.7", 160.0)
    assert not throttle.record_failure("203.0.113.7", 160.0)


def test_few_wrong_tokens_now_and_then_shut_nobody_out() -> None:
    throttle = FailedAuthLimiter()
    for minute in range(100):
        for _ in range(MAX_FAILED_ATTEMPTS - 1):
            throttle.record_failure("203.0.113.7", minute * FAILED_ATTEMPT_WINDOW_SECONDS)
        assert not shut_out(throttle, "203.0.113.7", minute * FAILED_ATTEMPT_WINDOW_SECONDS)


@pytest.mark.slow
def test_the_throttle_forgets_the_oldest_when_it_has_seen_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "MAX_ADDRESSES", 100)
    throttle = FailedAuthLimiter()
    for number in range(10_000):
        throttle.record_failure(f"2001:db8:{number:x}::1", 0.0)
    assert len(throttle._windows) == 100
    for _ in range(MAX_FAILED_ATTEMPTS):
        throttle.record_failure("203.0.113.7", 1.0)
    assert shut_out(throttle, "203.0.113.7", 1.0)


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_what_counts_as_one_caller(address: str, counted_as: str) -> None:
    assert client_network(address) == counted_as


@pytest.mark.parametrize(
    "headers",
    [
        [(f"x-{number}", "1") for number in range(MAX_HEADERS + 1)],
        [("x-long", "1" * MAX_HEADER_BYTES)],
        [(f"x-{number}", "1" * 4096) for number in range(8)],
    ],
    ids=["many", "one that is long", "long together"],
)
async def test_too_many_or_too_large_headers_are_refused_even_on_open_routes(headers: list[tuple[str, str]]) -> None:
    async with client_of(small_app(), Authorization=f"Bearer {ADMIN}") as client:
        for path in ("/api/admin/x", "/healthz"):
            assert "send fewer" in refusal(await client.get(path, headers=headers), 431, "HEADERS_TOO_LARGE")


async def test_usual_headers_pass_and_a_long_query_counts_too() -> None:
    async with client_of(small_app(), Authorization=f"Bearer {ADMIN}") as client:
        many = [(f"x-{number}", "1" * 200) for number in range(80)]
        assert (await client.get("/api/admin/x", headers=many)).status_code == 200
        refusal(await client.get(f"/api/admin/x?q={'1' * MAX_HEADER_BYTES}"), 431, "HEADERS_TOO_LARGE")


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='ab"\\[]{}\n\u00e9\U0001f4a9'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='a"[{\\'), inner, max_size=2),
    max_leaves=20,
)


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max((depth(one) for one in inner), default=0)


@given(JSON, st.integers(0, MAX_JSON_DEPTH + 3), st.sampled_from(["utf-8", "utf-16", "utf-32-be"]))
def test_too_deep_is_told_exactly_whatever_strings_and_encoding(value: object, more: int, encoding: str) -> None:
    for number in range(more):
        value = [value, "]"] if number % 2 else {"[": value}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        body = text.encode(encoding)
        assert json.loads(body) == value
        assert exceeds_json_depth(body) is (depth(value) > MAX_JSON_DEPTH)


@given(st.binary() | st.text(alphabet='[]{}"\\a\0').map(str.encode))
def test_what_is_no_json_is_judged_without_an_error(body: bytes) -> None:
    exceeds_json_depth(body)


@pytest.mark.parametrize(
    "body", [b"[]" * 500_000, b'""' * 500_000 + b"[" * 40, b"[" * 1_000_000, b'"' + b'\\"' * 500_000 + b"[" * 40]
)
def test_a_hostile_megabyte_is_judged_in_a_moment(body: bytes) -> None:
    begin = clock.monotonic()
    exceeds_json_depth(body)
    assert clock.monotonic() - begin < 2.0  # a tenth of it on an idle machine


async def test_a_small_body_that_never_ends_is_refused_and_one_that_came_may_take_long_to_answer() -> None:
    messages = [{"type": "http.request", "body": b"[", "more_body": True}]

    async def receive() -> Message:
        return messages.pop() if messages else await asyncio.Future()

    slow = limit_body_time(receive, seconds=0.1)
    assert (await slow())["body"] == b"["
    with pytest.raises(HttpError, match=r"did not arrive within 0\.1 s"):
        await slow()

    messages.append({"type": "http.request", "body": b"[]", "more_body": False})
    whole = limit_body_time(receive, seconds=0.1)
    await whole()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(whole(), 0.3)


class Small(APIRoute):
    """As the routes are whose body is read into memory."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handle(await read_limited_body(request, 1000, lambda _: None))

        return bounded


async def test_a_small_body_is_bounded_in_size_and_depth_and_the_route_gets_it_as_it_came() -> None:
    app, router = small_app(), APIRouter(route_class=Small)
    register_exception_handlers(app)

    @router.post("/api/admin/media/x")
    async def echo(body: dict[str, Any]) -> dict[str, Any]:
        return body

    app.include_router(router)
    async with client_of(app, Authorization=f"Bearer {ADMIN}") as client:
        deepest: dict[str, Any] = {"a": "]"}
        for _ in range(MAX_JSON_DEPTH - 1):
            deepest = {"a": deepest}
        assert (await client.post("/api/admin/media/x", json=deepest)).json() == deepest
        deep = await client.post("/api/admin/media/x", json={"a": deepest})
        assert "nested deeper than 32 levels" in refusal(deep, 400, "BAD_REQUEST")
        refusal(await client.post("/api/admin/media/x", content=b"[" * 999), 400, "BAD_REQUEST")
        refusal(await client.post("/api/admin/media/x", json={"a": "x" * 1000}), 413, "TOO_LARGE")
        broken = await client.post("/api/admin/media/x", content=b"{", headers={"Content-Type": "application/json"})
        assert "is not JSON" in refusal(broken, 400, "BAD_REQUEST")
