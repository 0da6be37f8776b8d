"""Named API tokens: what each role may, made and ended over the API, right in every process, secret everywhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from telewarm import clock
from telewarm.api import token_cache as token_caches
from telewarm.api.permissions import PUBLIC_PATHS, find_rule, required_role, route_path
from telewarm.api.token_cache import ApiTokenCache
from telewarm.database import tokens
from telewarm.database.connection import Executor
from telewarm.database.tokens import Role
from telewarm.errors import DatabaseUnavailable
from telewarm.runtime import Telewarm
from tests.api.conftest import ADMIN, BOT, MEDIA, SEND, client_of, refusal
from tests.api.governing import AUDIT, TOKENS, Governed, governing
from tests.api.test_guard import routes
from tests.fixtures.app import Opener
from tests.fixtures.outages import database_away, reads_fail

BOTS = "/api/admin/bots"
READ, OPERATE, ALL = Role.READ, Role.OPERATE, Role.ADMIN


@pytest.fixture
async def governed(telewarm_with: Opener) -> AsyncIterator[Governed]:
    async with governing(await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)) as governed:
        yield governed


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/metrics", READ),
        ("GET", MEDIA, READ),
        ("HEAD", MEDIA, READ),
        ("GET", "/api/media/preview/1", READ),
        ("GET", f"{BOTS}/shop/chats", READ),
        ("GET", "/api/admin/events", READ),
        ("POST", MEDIA, OPERATE),
        ("POST", f"{MEDIA}/batch", OPERATE),
        ("POST", SEND, OPERATE),
        ("POST", "/api/admin/media/1/rewarm", OPERATE),
        ("DELETE", "/api/admin/media/1", OPERATE),
        ("POST", "/api/admin/media/prewarm/stop", OPERATE),
        ("POST", f"{BOTS}/shop/pause", OPERATE),
        ("PUT", f"{BOTS}/shop/warmup-chat", OPERATE),
        ("PUT", f"{BOTS}/shop/warmup-chats", OPERATE),
        ("DELETE", f"{BOTS}/shop/chats/7", OPERATE),
        ("POST", f"{BOTS}/shop/broadcasts", OPERATE),
        ("POST", "/api/admin/broadcasts/1/start", OPERATE),
        ("POST", BOTS, ALL),
        ("PUT", f"{BOTS}/shop/token", ALL),
        ("DELETE", f"{BOTS}/shop", ALL),
        ("POST", f"{BOTS}/shop/undelete", ALL),
        ("POST", "/api/admin/media/collect", ALL),
        ("GET", TOKENS, ALL),
        ("HEAD", TOKENS, ALL),
        ("POST", f"{TOKENS}/ci/rotate", ALL),
        ("DELETE", f"{TOKENS}/ci", ALL),
        ("GET", AUDIT, ALL),
        ("POST", "/api/admin/what-nobody-thought-of", ALL),
        ("POST", f"{BOTS}/shop/what-nobody-thought-of", ALL),
        ("POST", f"{BOTS}/shop/sendx", ALL),
        ("POST", f"{BOTS}/a/b/send", ALL),
        ("POST", f"/x{MEDIA}", ALL),
        ("POST", f"{MEDIA}/\n../token", OPERATE),
        ("OPTIONS", MEDIA, OPERATE),
        ("PURGE", "/metrics", ALL),
    ],
)
def test_what_a_request_needs(method: str, path: str, role: Role) -> None:
    assert required_role(method, path) is role


@pytest.mark.parametrize(
    ("root", "path", "seen"),
    [
        ("", "/a/b", "/a/b"),
        ("/telewarm", "/telewarm/a", "/a"),
        ("/telewarm", "/telewarm", ""),
        ("/telewarm", "/telewarmer/a", "/telewarmer/a"),
        ("/telewarm", "/a", "/a"),
    ],
)
def test_the_guard_sees_the_path_as_the_router_does(root: str, path: str, seen: str) -> None:
    assert route_path({"path": path, "root_path": root}) == seen


async def test_somebody_thought_of_every_route_there_is(governed: Governed) -> None:
    forgotten = [
        (method, path)
        for method, path in routes(governed.app)
        if path not in PUBLIC_PATHS and not find_rule(method, path)
    ]
    assert not forgotten


@pytest.mark.parametrize(
    ("role", "refused"),
    [(READ, {"operate", "admin"}), (OPERATE, {"admin"}), (ALL, set())],
)
async def test_a_role_opens_what_it_may_and_the_refusal_names_the_role_that_is_needed(
    governed: Governed, role: Role, refused: set[str]
) -> None:
    client = await governed.client(await governed.make("mine", role))
    seen = set()
    for method, path in (("GET", "/metrics"), ("GET", MEDIA), ("POST", SEND), ("POST", BOTS), ("GET", TOKENS)):
        answer = await client.request(method, path)
        if answer.status_code == 403:
            said = refusal(answer, 403, "FORBIDDEN")
            assert f"mine has the role {role}" in said
            seen.add(re.findall(r"needs a token with the role (\w+)", said)[0])
    assert seen == refused


async def test_a_token_is_shown_once_and_by_no_other_answer(governed: Governed) -> None:
    answer = await governed.admin.post(TOKENS, json={"name": "ci", "role": "operate", "expires_in_days": 2})
    body = answer.json()
    secret = body["token"]
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert (body["name"], body["role"], body["last_used_at"]) == ("ci", "operate", None)
    expires = datetime.fromisoformat(body["expires_at"])
    assert timedelta(days=1.9) < expires - clock.now() < timedelta(days=2.1)

    listed = await governed.admin.get(TOKENS)
    revoked = await governed.admin.delete(f"{TOKENS}/ci")
    assert [one["name"] for one in listed.json()["tokens"]] == ["ci"]
    assert revoked.json()["revoked_at"] is not None
    for other in (listed, revoked, await governed.admin.get("/metrics"), await governed.admin.get(AUDIT)):
        assert secret not in other.text
        assert tokens.hash_of(secret).hex() not in other.text


async def test_a_token_is_good_as_soon_as_it_is_answered_and_void_as_soon_as_it_is_revoked(governed: Governed) -> None:
    for number in range(5):  # faster than once a second
        client = await governed.client(await governed.make(f"ci-{number}", READ))
        refusal(await client.get(MEDIA), 404, "NOT_FOUND")
        assert (await governed.admin.delete(f"{TOKENS}/ci-{number}")).status_code == 200
        refusal(await client.get(MEDIA), 401, "UNAUTHORIZED")


async def test_rotating_shuts_nobody_out_for_the_grace(governed: Governed) -> None:
    old = await governed.client(await governed.make("ci", READ))
    rotated = await governed.admin.post(f"{TOKENS}/ci/rotate")
    new = await governed.client(rotated.json()["token"])
    assert (rotated.status_code, rotated.headers["cache-control"]) == (200, "no-store")
    assert [(await client.get("/metrics")).status_code for client in (old, new)] == [200, 200]

    newest = await governed.client(
        (await governed.admin.post(f"{TOKENS}/ci/rotate", json={"grace_s": 0})).json()["token"]
    )
    assert [(await client.get("/metrics")).status_code for client in (old, new, newest)] == [401, 401, 200]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "a/b", "role": "read"}, 400),
        ({"name": "local", "role": "read"}, 400),
        ({"name": "ci", "role": "root"}, 422),
        ({"name": "ci"}, 422),
        ({"name": "ci", "role": "read", "expires_in_days": 0}, 422),
        ({"name": "ci", "role": "read", "expires_in_days": 1e9}, 422),
    ],
)
async def test_what_makes_no_token_is_refused(governed: Governed, body: dict[str, object], status: int) -> None:
    refusal(await governed.admin.post(TOKENS, json=body), status, "BAD_REQUEST")
    assert (await governed.admin.get(TOKENS)).json()["tokens"] == []


async def test_what_is_taken_or_not_there_is_told(governed: Governed) -> None:
    await governed.make("ci", READ)
    refusal(await governed.admin.post(TOKENS, json={"name": "ci", "role": "read"}), 409, "CONFLICT")
    refusal(await governed.admin.post(f"{TOKENS}/nobody/rotate"), 404, "NOT_FOUND")
    refusal(await governed.admin.delete(f"{TOKENS}/nobody"), 404, "NOT_FOUND")
    for wrong in (1_000_000, True):
        refusal(await governed.admin.post(f"{TOKENS}/ci/rotate", json={"grace_s": wrong}), 422, "BAD_REQUEST")


async def test_an_expired_token_is_not_rotated_and_the_openapi_says_so(governed: Governed) -> None:
    await governed.make("ci", READ)
    await governed.telewarm.pool.execute("UPDATE api_token SET expires_at = now() - interval '1 day'")
    refusal(await governed.admin.post(f"{TOKENS}/ci/rotate"), 409, "CONFLICT")
    assert "409" in governed.app.openapi()["paths"][f"{TOKENS}/{{name}}/rotate"]["post"]["responses"]


async def test_a_secret_in_the_place_of_a_name_is_not_repeated(governed: Governed) -> None:
    secret = await governed.make("ci", READ)
    for answer in (await governed.admin.delete(f"{TOKENS}/{secret}"), await governed.admin.get(f"{TOKENS}/{secret}")):
        assert answer.status_code in {400, 404, 405}
    assert secret not in (await governed.admin.delete(f"{TOKENS}/{secret}")).text
    assert secret not in str(await governed.changes())


async def test_use_is_noted(governed: Governed) -> None:
    client = await governed.client(await governed.make("ci", READ))
    await client.get("/metrics")
    async with asyncio.timeout(5):
        while (await governed.admin.get(TOKENS)).json()["tokens"][0]["last_used_at"] is None:
            pass


async def test_where_no_admin_token_is_set_a_named_token_counts_and_its_absence_opens_nothing(
    telewarm_with: Opener,
) -> None:
    async with governing(await telewarm_with(worker=False)) as governed:
        client = await governed.client(await governed.make("ci", READ), address="203.0.113.7")
        assert (await client.get("/metrics")).status_code == 200
        refusal(await client.post(BOTS, json=BOT), 403, "FORBIDDEN")
        refusal(await (await governed.client("tw_wrong")).get("/metrics"), 401, "UNAUTHORIZED")
        refusal(await (await governed.client(None, address="203.0.113.7")).get("/metrics"), 401, "UNAUTHORIZED")
        refusal(await (await governed.client(None)).post(BOTS, json=BOT), 401, "UNAUTHORIZED")


async def test_each_process_knows_at_once_what_another_one_changed(governed: Governed, telewarm_with: Opener) -> None:
    other = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    async with governing(other) as elsewhere:
        secret = await governed.make("ci", READ)
        client = await elsewhere.client(secret)
        async with asyncio.timeout(5):
            while (await client.get("/metrics")).status_code == 401:
                await clock.sleep(0)
        await governed.admin.delete(f"{TOKENS}/ci")
        async with asyncio.timeout(5):
            while (await client.get("/metrics")).status_code == 200:
                await clock.sleep(0)


@pytest.fixture
async def token_cache(idle_telewarm: Telewarm) -> AsyncIterator[ApiTokenCache]:
    token_cache = ApiTokenCache(idle_telewarm.pool)
    async with token_cache.running():
        yield token_cache


async def make(telewarm: Telewarm, *, lifetime: timedelta | None = None) -> str:
    async with telewarm.pool.acquire() as connection:
        return (await tokens.create(connection, name="ci", role=READ, lifetime=lifetime))[1]


def reads(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the table was read from now on."""
    times: list[float] = []
    good = tokens.valid_tokens

    async def counted(db: Executor) -> list[tokens.ValidToken]:
        times.append(clock.monotonic())
        return await good(db)

    monkeypatch.setattr(tokens, "valid_tokens", counted)
    return times


async def test_a_flood_of_unknown_tokens_costs_at_most_one_query_a_second(
    token_cache: ApiTokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, begin = reads(monkeypatch), clock.monotonic()
    for number in range(2000):
        assert await token_cache.find_principal(f"tw_{number}") is None
    assert len(seen) <= 1 + (clock.monotonic() - begin)


async def test_known_tokens_cost_no_query(
    token_cache: ApiTokenCache, idle_telewarm: Telewarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = await make(idle_telewarm)
    token_cache.invalidate()
    assert await token_cache.find_principal(secret) is not None
    seen = reads(monkeypatch)
    begin = clock.monotonic()
    for _ in range(2000):
        assert await token_cache.find_principal(secret) is not None
    assert len(seen) <= 2 + (clock.monotonic() - begin)


async def test_a_token_expires_without_anybody_saying_so(token_cache: ApiTokenCache, idle_telewarm: Telewarm) -> None:
    secret = await make(idle_telewarm, lifetime=timedelta(seconds=0.5))
    token_cache.invalidate()
    assert await token_cache.find_principal(secret) is not None
    async with asyncio.timeout(5):
        while await token_cache.find_principal(secret) is not None:
            await clock.sleep(0)


async def test_without_the_database_tokens_are_believed_for_a_while_and_then_nobody_can_say(
    token_cache: ApiTokenCache, idle_telewarm: Telewarm, telewarm_with: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = token_cache._invalidated_at
    secret = await make(idle_telewarm)
    while token_cache._invalidated_at == before:  # news that came after the table has gone would be believed no more
        await clock.wait(asyncio.Event(), 0.01)
    assert await token_cache.find_principal(secret) is not None

    monkeypatch.setattr(token_caches, "MIN_REFRESH_SECONDS", 0.0)
    async with database_away(telewarm_with.database_url):
        assert await token_cache.find_principal("tw_unknown") is None
        assert await token_cache.find_principal(secret) is not None
        monkeypatch.setattr(token_caches, "CACHE_TTL_SECONDS", 0.0)
        with pytest.raises(DatabaseUnavailable, match="telewarm token show"):
            await token_cache.find_principal(secret)

    assert await token_cache.find_principal(secret) is not None


async def test_a_lost_database_is_asked_once_a_second_however_many_call(
    token_cache: ApiTokenCache, idle_telewarm: Telewarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await idle_telewarm.pool.execute("ALTER TABLE api_token RENAME TO away")
    seen, begin = reads(monkeypatch), clock.monotonic()
    token_cache.invalidate()
    for _ in range(20):
        refused = await asyncio.gather(
            *(token_cache.find_principal("tw_any") for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(error, DatabaseUnavailable) for error in refused)
    assert len(seen) <= 1 + (clock.monotonic() - begin)


async def test_what_nobody_can_say_is_answered_503_and_the_admin_token_goes_on(
    governed: Governed,
) -> None:
    client = await governed.client(await governed.make("ci", READ))
    await reads_fail(governed.telewarm.pool, "api_token")
    governed.token_cache.invalidate()
    refusal(await client.get(MEDIA), 503, "DATABASE_UNAVAILABLE")
    refusal(await governed.admin.get(MEDIA), 404, "NOT_FOUND")


async def test_the_open_routes_need_nothing(governed: Governed) -> None:
    async with client_of(governed.app) as client:
        for path in PUBLIC_PATHS:
            assert (await client.get(path)).status_code == 200, path
