"""The audit log: every change with who made it, no look, no secret, and never in the way of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.api import audit_writer
from telewarm.api.audit_writer import AuditWriter, sanitize
from telewarm.database import audit
from telewarm.database.audit import AuditEntry
from telewarm.database.connection import Pool
from telewarm.database.tokens import Role
from telewarm.runtime import Telewarm
from tests.api.conftest import ADMIN, BOT, MEDIA, SEND, refusal
from tests.api.governing import AUDIT, TOKENS, Governed, governing
from tests.fixtures.app import Opener
from tests.fixtures.outages import writes_fail
from tests.fixtures.sandbox import token

BOTS = "/api/admin/bots"
PLANTED = token(7)


@pytest.fixture
async def governed(telewarm_with: Opener) -> AsyncIterator[Governed]:
    async with governing(await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)) as governed:
        yield governed


def change(number: int = 0) -> AuditEntry:
    return AuditEntry(
        at=clock.now(),
        actor="ci",
        role="admin",
        action="POST /x",
        target=f"/{number}",
        status=200,
        request_id=None,
        address=None,
    )


async def test_a_change_is_noted_with_who_what_and_how_it_ended(governed: Governed) -> None:
    operator = await governed.client(await governed.make("ci", Role.OPERATE), address="203.0.113.7")
    assert (await governed.admin.post(BOTS, json=BOT)).status_code == 201
    assert (await operator.post(f"{BOTS}/shop/pause")).status_code == 200
    assert (await operator.post(f"{BOTS}/nobody/pause")).status_code == 404

    noted = [
        (one["actor"], one["role"], one["action"], one["target"], one["status"], one["address"])
        for one in await governed.changes()
    ]
    assert noted == [
        ("ci", "operate", f"POST {BOTS}/{{slug}}/pause", f"{BOTS}/nobody/pause", 404, "203.0.113.7"),
        ("ci", "operate", f"POST {BOTS}/{{slug}}/pause", f"{BOTS}/shop/pause", 200, "203.0.113.7"),
        ("ADMIN_API_TOKEN", "admin", f"POST {BOTS}", BOTS, 201, "127.0.0.1"),
        ("ADMIN_API_TOKEN", "admin", f"POST {TOKENS}", TOKENS, 201, "127.0.0.1"),
    ]


async def test_it_tells_a_delete_from_one_for_good_and_hides_what_is_secret_in_a_query(governed: Governed) -> None:
    assert (await governed.admin.post(BOTS, json=BOT)).status_code == 201
    assert (await governed.admin.delete(f"{BOTS}/shop")).status_code == 200
    assert (await governed.admin.delete(f"{BOTS}/shop", params={"forever": "true", "x": token(5)})).status_code == 422
    assert (await governed.admin.delete(f"{BOTS}/shop", params={"forever": "true"})).status_code == 200
    targets = [one["target"] for one in await governed.changes()]
    assert targets == [
        f"{BOTS}/shop?forever=true",
        f"{BOTS}/shop?forever=true&x=1000000006:<token>",
        f"{BOTS}/shop",
        BOTS,
    ]


async def test_looks_and_refusals_are_not_noted(governed: Governed) -> None:
    reader = await governed.client(await governed.make("reader", Role.READ))
    before = await governed.changes()
    await reader.get("/metrics")
    await reader.head(MEDIA)
    await governed.admin.get(MEDIA)
    refusal(await reader.post(SEND), 403, "FORBIDDEN")
    refusal(await (await governed.client(None)).post(SEND), 401, "UNAUTHORIZED")
    refusal(await (await governed.client("wrong")).post(SEND), 401, "UNAUTHORIZED")
    assert await governed.changes() == before


async def test_the_servers_own_token_is_told_by_one_name_wherever_it_is_kept(telewarm_with: Opener) -> None:
    async with governing(await telewarm_with(worker=False)) as governed:
        assert (await governed.admin.post(BOTS, json=BOT)).status_code == 201
        [noted] = await governed.changes()
    assert (noted["actor"], noted["role"]) == ("ADMIN_API_TOKEN", "admin")


async def test_a_burst_of_wrong_tokens_is_one_row(governed: Governed) -> None:
    attacker = await governed.client("wrong-one-that-is-long", address="2001:db8::1")
    for _ in range(30):
        await attacker.get(MEDIA)
    [noted] = await governed.changes()
    assert (noted["actor"], noted["action"], noted["address"]) == (None, "(wrong tokens)", "2001:db8::1")
    assert "wrong-one-that-is-long" not in str(noted)


async def test_no_secret_is_kept_wherever_it_was_put(governed: Governed) -> None:
    secret = await governed.make("ci", Role.ADMIN)
    client = await governed.client(secret)
    for path in (
        f"{BOTS}/{PLANTED}/pause",
        f"{BOTS}/{secret}/pause",
        f"{BOTS}/{ADMIN}/pause",
        f"{TOKENS}/{secret}/rotate",
        f"/nowhere/{PLANTED}",
        f"{BOTS}/shop/pause?token={PLANTED}",
    ):
        await client.post(path, json={"token": PLANTED})
    await client.post(BOTS, json={**BOT, "token": PLANTED})

    kept_rows = str([dict(row) for row in await governed.telewarm.pool.fetch("SELECT * FROM audit")])
    kept_rows += (await governed.admin.get(AUDIT)).text
    assert kept_rows.count("<token>") >= 5
    for planted in (PLANTED, PLANTED.partition(":")[2], secret, secret.removeprefix("tw_"), ADMIN):
        assert planted not in kept_rows


@pytest.mark.parametrize("path", ["/a%00b", "/%ff%fe", "/" + "x" * 5000, "/\N{PILE OF POO}"])
async def test_a_path_that_the_database_could_not_hold_is_noted_all_the_same(governed: Governed, path: str) -> None:
    await governed.admin.post(path)
    [noted] = await governed.changes()
    assert (noted["action"], noted["status"]) == ("POST (no route)", 404)
    assert len(str(noted["target"])) <= 500


def test_what_is_kept_is_text_that_a_database_takes() -> None:
    assert sanitize("a\0b\ud800") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"


async def test_the_request_id_is_noted(governed: Governed) -> None:
    await governed.admin.post(f"{BOTS}/shop/pause", headers={"X-Request-Id": "one-request"})
    [noted] = await governed.changes()
    assert noted["request_id"] == "one-request"


async def test_the_pages_lead_from_the_newest_to_the_oldest(governed: Governed) -> None:
    await audit.insert(governed.telewarm.pool, [change(number) for number in range(7)])
    seen, before = [], None
    while True:
        params = {"limit": 3} if before is None else {"limit": 3, "before": before}
        page = (await governed.admin.get(AUDIT, params=params)).json()
        seen += [one["target"] for one in page["changes"]]
        if (before := page["next"]) is None:
            break
    assert seen == [f"/{number}" for number in reversed(range(7))]


@pytest.mark.parametrize("query", ["before=0", "before=x", "limit=0", "limit=1001", f"before={2**63}"])
async def test_a_page_that_cannot_be_is_refused(governed: Governed, query: str) -> None:
    refusal(await governed.admin.get(f"{AUDIT}?{query}"), 422, "BAD_REQUEST")


async def test_a_row_that_cannot_be_stored_is_dropped_and_told_and_the_others_are_kept(
    idle_telewarm: Telewarm,
) -> None:
    await idle_telewarm.pool.execute("ALTER TABLE audit ADD CHECK (target <> '/2')")
    log = AuditWriter(idle_telewarm.pool)
    for number in range(4):
        log.add(change(number))
    with capture_logs() as logged:
        await log.flush()
    assert [one.target for one in await audit.page(idle_telewarm.pool, limit=9)] == ["/3", "/1", "/0"]
    assert [line["row"] for line in logged if line["event"] == "row_write_refused"] == [f"{change(2).action} /2"]


async def test_a_database_that_is_away_hinders_no_answer_and_loses_no_row(governed: Governed) -> None:
    pool = governed.telewarm.pool
    async with writes_fail(pool, "audit"):
        for _ in range(3):
            refusal(await governed.admin.post(f"{BOTS}/nobody/pause"), 404, "NOT_FOUND")
        await governed.log.flush()
    assert len(await governed.changes()) == 3


async def test_a_log_that_nobody_can_write_does_not_grow_for_ever(
    idle_telewarm: Telewarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_writer, "MAX_BUFFERED_ENTRIES", 10)
    log = AuditWriter(idle_telewarm.pool)
    for number in range(100):
        log.add(change(number))
    await log.flush()
    assert [one.target for one in await audit.page(idle_telewarm.pool, limit=100)] == [
        f"/{number}" for number in reversed(range(90, 100))
    ]


async def test_rows_are_written_by_themselves_and_at_the_end(idle_telewarm: Telewarm) -> None:
    log = AuditWriter(idle_telewarm.pool)
    async with log.running():
        log.add(change(1))
        async with asyncio.timeout(5):
            while not await audit.page(idle_telewarm.pool, limit=10):
                await clock.sleep(0)
        log.add(change(2))
    assert [one.target for one in await audit.page(idle_telewarm.pool, limit=10)] == ["/2", "/1"]


async def test_many_changes_are_few_writes(idle_telewarm: Telewarm, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    record = audit.insert

    async def counted(pool: Pool, changes: list[AuditEntry]) -> None:
        sizes.append(len(changes))
        await record(pool, changes)

    monkeypatch.setattr(audit, "insert", counted)
    log = AuditWriter(idle_telewarm.pool)
    for number in range(12_000):
        log.add(change(number))
    await log.flush()
    assert sizes == [5000, 5000, 2000]
    assert await idle_telewarm.pool.fetchval("SELECT count(*) FROM audit") == 12_000
