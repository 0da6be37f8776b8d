"""Who may call: whoever has a token, and nobody else, also of this machine."""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from telewarm.api.middleware.auth import PUBLIC_PATHS
from telewarm.component_config import ServerToken
from telewarm.errors import SettingsError
from telewarm.logs import redact
from tests.api.conftest import ADMIN, BEARER, BOT, MEDIA, SEND, Api, client_of, refusal
from tests.fixtures.app import Opener

SCRIPTS = {f"/docs/assets/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js")}
PAGE = "http://127.0.0.1:8000"


@pytest.fixture
async def protected(telewarm_with: Opener) -> FastAPI:
    telewarm = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    return telewarm.api()


@pytest.fixture
async def unset(telewarm_with: Opener) -> FastAPI:
    """As it starts without ADMIN_API_TOKEN."""
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
            if path in PUBLIC_PATHS:
                assert answer.status_code == 200, path
            elif method != "HEAD":
                refusal(answer, 401, "UNAUTHORIZED")


async def test_what_is_open_is_health_and_documentation_alone() -> None:
    assert {"/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", *SCRIPTS} == PUBLIC_PATHS


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
    assert "`Authorization: Bearer <token>`" in refusal(answer, 401, "UNAUTHORIZED")
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


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "127.0.0.1:8000"},
        {"Host": "localhost"},
        {"Host": "127.0.0.1:8000", "Connection": "close"},  # as nginx asks, with no more than a proxy_pass
        {"Origin": PAGE, "Sec-Fetch-Site": "same-origin"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer tw_revoked-long-ago"},
        {"Authorization": "Bearer "},
    ],
)
async def test_without_a_token_not_even_programs_of_this_machine_may_call(
    unset: FastAPI, headers: dict[str, str]
) -> None:
    async with client_of(unset, **headers) as client:
        refusal(await client.post("/api/admin/bots", json=BOT), 401, "UNAUTHORIZED")
        refusal(await client.post("/api/admin/tokens", json={"name": "intruder", "role": "admin"}), 401, "UNAUTHORIZED")
        refusal(await client.get("/metrics"), 401, "UNAUTHORIZED")


async def test_a_server_that_was_given_no_token_makes_one_that_only_its_owner_can_read(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False)
    kept = telewarm_with.data / "api.token"
    assert not kept.exists()  # nothing serves yet
    app = telewarm.api()
    assert kept.stat().st_mode & 0o777 == 0o600
    secret = kept.read_text()
    assert len(secret) >= 43  # 256 bits
    async with client_of(app, Authorization=f"Bearer {secret}") as client:
        assert (await client.post("/api/admin/bots", json=BOT)).status_code == 201
        assert secret not in repr(app.state.services)


async def test_all_processes_of_a_data_folder_have_one_token_and_others_another(telewarm_with: Opener) -> None:
    one, other = await telewarm_with(worker=False), await telewarm_with(worker=False)
    with ThreadPoolExecutor(8) as threads:
        tokens = list(threads.map(lambda telewarm: telewarm.server_token(), 8 * [one, other]))
    assert len({token.secret for token in tokens}) == 1
    assert sum(token.created for token in tokens) == 1  # so one of them prints it
    again = await telewarm_with(worker=False)  # as after a restart
    assert again.server_token() == ServerToken(
        secret=tokens[0].secret, path=telewarm_with.data / "api.token", created=False
    )
    elsewhere = await telewarm_with(worker=False, TELEWARM_DATA=str(telewarm_with.data / "elsewhere"))
    assert elsewhere.server_token().secret != tokens[0].secret


async def test_a_given_token_is_kept_nowhere(protected: FastAPI, telewarm_with: Opener) -> None:
    assert not (telewarm_with.data / "api.token").exists()
    async with client_of(protected, **BEARER) as client:
        assert (await client.get("/api/admin/bots")).status_code == 200


async def test_a_token_file_that_others_may_read_is_closed_to_them(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False)
    secret, kept = telewarm.server_token().secret, telewarm_with.data / "api.token"
    kept.chmod(0o644)  # as a backup that was put back may be
    assert telewarm.server_token().secret == secret
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("held", [b"", b"\n", b"hunter2", b"\xff\xfe", b"tw_short"])
async def test_a_broken_token_file_is_told_with_its_cure_and_nothing_is_served(
    telewarm_with: Opener, held: bytes
) -> None:
    telewarm = await telewarm_with(worker=False)
    kept = telewarm_with.data / "api.token"
    kept.write_bytes(held)
    with pytest.raises(SettingsError, match=r"api\.token") as refused:
        telewarm.api()
    assert "hunter2" not in str(refused.value)


async def test_the_generated_token_gets_into_no_log(telewarm_with: Opener) -> None:
    secret = (await telewarm_with(worker=False)).server_token().secret
    assert secret not in redact(f"Authorization: {secret}")


@pytest.mark.parametrize("headers", [{}, {"Host": "probe"}, {"Origin": "https://status.example.org"}])
async def test_health_is_open_to_all(protected: FastAPI, unset: FastAPI, headers: dict[str, str]) -> None:
    for app in (protected, unset):
        async with client_of(app, **headers) as client:
            answer = await client.get("/healthz")
            assert (answer.status_code, answer.json()) == (200, {"ok": True})


async def test_the_bearer_header_is_what_opens(protected: FastAPI) -> None:
    async with client_of(protected, **BEARER) as client:
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
