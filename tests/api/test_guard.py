"""Who may call: with the token everybody, without one the programs of this machine, and no web page ever."""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from telewarm.api.guard import OPEN
from tests.api.conftest import ADMIN, BEARER, BOT, MEDIA, SEND, Api, client_of, refusal
from tests.fixtures.app import Opener

SCRIPTS = {f"/docs/assets/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js")}
PAGE = "http://127.0.0.1:8000"


@pytest.fixture
async def protected(telewarm_with: Opener) -> FastAPI:
    telewarm = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    return telewarm.api()


@pytest.fixture
async def unprotected(telewarm_with: Opener) -> FastAPI:
    return (await telewarm_with(worker=False)).api()


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every path with every method, as the documentation has them and as the router has them."""
    described = get_openapi(title="", version="", routes=app.routes)["paths"]
    yield from ((method.upper(), path) for path, methods in described.items() for method in methods)
    for route in app.routes:
        if path := getattr(route, "path", ""):
            yield from ((method, path) for method in getattr(route, "methods", None) or {"GET"})


async def test_without_the_token_every_route_but_health_and_documentation_is_closed(protected: FastAPI) -> None:
    walked = {(method, re.sub(r"\{.*?\}", "1", path.replace("{slug}", "shop"))) for method, path in routes(protected)}
    assert {("POST", "/api/admin/bots"), ("POST", MEDIA), ("POST", SEND), ("GET", "/api/admin/media/1")} <= walked
    async with client_of(protected) as client:
        for method, path in walked:
            answer = await client.request(method, path)
            if path in OPEN:
                assert answer.status_code == 200, path
            elif method != "HEAD":
                refusal(answer, 401, "UNAUTHORIZED")


async def test_what_is_open_is_health_and_documentation_alone() -> None:
    assert {"/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", *SCRIPTS} == OPEN


@pytest.mark.parametrize("path", ["/", "/preview", "/preview/1", "/api/admin", "/healthz/", "//healthz", "/static/x"])
async def test_what_is_no_route_is_closed_too(protected: FastAPI, path: str) -> None:
    async with client_of(protected) as client:
        refusal(await client.get(path), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", f"Basic {ADMIN}", ADMIN, f"Bearer {ADMIN}x", f"Bearer {ADMIN[:-1]}", "Bearer \xe9\xff"],
)
async def test_another_token_is_refused(protected: FastAPI, given: str) -> None:
    async with client_of(protected) as client:
        answer = await client.get(MEDIA, headers=[(b"authorization", given.encode("latin-1"))])
    assert "`Authorization: Bearer <ADMIN_API_TOKEN>`" in refusal(answer, 401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert ADMIN not in answer.text


async def test_two_tokens_are_refused_even_when_one_is_right(protected: FastAPI) -> None:
    async with client_of(protected) as client:
        both = [("Authorization", f"Bearer {ADMIN}"), ("Authorization", "Bearer another-token-of-others")]
        refusal(await client.get(MEDIA, headers=both), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_with_the_token_any_host_and_origin_may_call(protected: FastAPI, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {ADMIN}", "Host": "warm.example.org", "Origin": "https://app.example.org"}
    async with client_of(protected, **headers) as client:
        refusal(await client.get(MEDIA), 404, "NOT_FOUND")


async def test_nothing_of_a_body_is_read_before_the_token_is_checked(protected: FastAPI) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"["
        pytest.fail("the body was read")

    async with client_of(protected) as client:
        for path in ("/api/admin/bots", MEDIA, SEND):
            refusal(await client.post(path, content=body()), 401, "UNAUTHORIZED")


async def test_the_admin_token_is_in_no_repr(api: Api) -> None:
    assert ADMIN not in repr(api.telewarm.api().state.services)
    assert ADMIN not in repr(api.telewarm.settings)


async def test_the_documentation_offers_to_take_the_token(protected: FastAPI) -> None:
    async with client_of(protected) as client:
        described = (await client.get("/openapi.json")).json()
        assert (await client.get("/docs")).status_code == 200
    assert described["paths"]["/api/admin/bots"]["post"]["security"]
    assert "security" not in described["paths"]["/healthz"]["get"]
    assert ADMIN not in str(described)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000", "127.0.0.1"])
async def test_without_a_token_programs_of_this_machine_may_call(unprotected: FastAPI, host: str) -> None:
    async with client_of(unprotected, Host=host) as client:
        assert (await client.post("/api/admin/bots", json=BOT)).status_code == 201


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.org",
        "evil.example.org:8000",
        "127.0.0.1.evil.example.org",
        "localhost.evil.example.org",
        "127.0.0.1@evil.example.org",
        "evil.example.org#127.0.0.1",
        "[::1",
        "[",
        "",
        "127.0.0.1:x",
        "192.0.2.1",
        "\xe9",
    ],
)
async def test_a_name_that_was_made_to_point_here_is_refused(unprotected: FastAPI, host: str) -> None:
    async with client_of(unprotected) as client:
        request = client.build_request("GET", MEDIA, headers=[(b"host", host.encode("latin-1"))])
        refusal(await client.send(request), 403, "FORBIDDEN")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:8000.evil.example.org"},
        {"Origin": "http://["},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_page_of_another_site_is_refused(unprotected: FastAPI, headers: dict[str, str]) -> None:
    async with client_of(unprotected, **headers) as client:
        refusal(await client.post("/api/admin/bots", json=BOT), 403, "FORBIDDEN")
        refusal(await client.get(MEDIA), 403, "FORBIDDEN")


@pytest.mark.parametrize(
    "headers",
    [{"Origin": PAGE}, {"Origin": PAGE, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}],
)
async def test_our_own_page_may_call(unprotected: FastAPI, headers: dict[str, str]) -> None:
    async with client_of(unprotected, **headers) as client:
        assert (await client.post("/api/admin/bots", json=BOT)).status_code == 201


@pytest.mark.parametrize(("client_host", "status"), [("203.0.113.7", 403), ("::1", 404), ("127.0.0.1", 404)])
async def test_without_a_token_a_caller_of_another_machine_is_refused(
    unprotected: FastAPI, client_host: str, status: int
) -> None:
    transport = httpx.ASGITransport(unprotected, client=(client_host, 4711))
    async with httpx.AsyncClient(transport=transport, base_url=PAGE) as client:
        assert (await client.get(MEDIA)).status_code == status


@pytest.mark.parametrize("headers", [{}, {"Host": "probe"}, {"Origin": "https://status.example.org"}])
async def test_health_is_open_to_all(protected: FastAPI, unprotected: FastAPI, headers: dict[str, str]) -> None:
    for app in (protected, unprotected):
        async with client_of(app, **headers) as client:
            answer = await client.get("/healthz")
            assert (answer.status_code, answer.json()) == (200, {"ok": True})


async def test_the_bearer_header_is_what_opens(protected: FastAPI) -> None:
    async with client_of(protected, **BEARER) as client:
        assert (await client.post("/api/admin/bots", json=BOT)).status_code == 201


async def test_the_named_tokens_of_a_server_without_any_are_refused_as_wrong_ones(unprotected: FastAPI) -> None:
    async with client_of(unprotected, Authorization="Bearer tw_revoked-long-ago") as client:
        refusal(await client.get(MEDIA), 401, "UNAUTHORIZED")


async def test_a_server_without_tokens_ignores_what_is_no_named_token(unprotected: FastAPI) -> None:
    async with client_of(unprotected, Authorization="Basic dXNlcjpwYXNz") as client:
        assert (await client.post("/api/admin/bots", json=BOT)).status_code == 201


async def test_secrets_are_compared_whole_and_never_by_the_ordinary_operator(
    protected: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    compare = hmac.compare_digest

    def watched(given: bytes, right: bytes) -> bool:
        compared.append((given, right))
        return compare(given, right)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    async with client_of(protected) as client:
        for given in (ADMIN, f"{ADMIN}x", "x"):
            await client.get(MEDIA, headers={"Authorization": f"Bearer {given}"})
    assert compared == [(given.encode(), ADMIN.encode()) for given in (ADMIN, f"{ADMIN}x", "x")]
