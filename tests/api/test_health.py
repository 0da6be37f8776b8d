"""Alive, ready, healthy: what they say, to whom, and what asking costs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime

import httpx
import pytest
from structlog.testing import capture_logs

import telewarm as package
from telewarm import clock
from telewarm.api.health_checks import BUG_MESSAGE, CachedCheck, HealthChecks
from telewarm.database import bots
from telewarm.database.migrate import newest_revision
from telewarm.database.tokens import Role
from telewarm.demo.media import DemoFile
from telewarm.errors import StoreUnavailable
from telewarm.models import ChatId
from telewarm.probe.pool import ISOLATION_LAYERS
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.api.conftest import ADMIN, BEARER, Api, client_of, refusal
from tests.api.governing import governing
from tests.fixtures.app import Opener, add_bot, add_photos, until

READY = {"database": True, "migrations": True, "store": True, "spool": True}


def asked_anew(telewarm: Telewarm) -> httpx.AsyncClient:
    """A stranger's client of the API as it is just after its start: nothing is remembered."""
    return client_of(replace(telewarm, checks=HealthChecks(telewarm.checks.dependencies)).api())


async def test_anybody_may_ask_whether_it_is_ready_and_learns_names_alone(api: Api) -> None:
    async with client_of(api.telewarm.api()) as stranger:
        answer = await stranger.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"ok": True, "checks": READY})
        assert answer.headers["cache-control"] == "no-store"
        for path in ("/healthz", "/readyz"):
            assert (await stranger.head(path)).status_code == 200


async def test_the_worker_is_one_of_them_while_this_process_runs_one(telewarm: Telewarm) -> None:
    async with asked_anew(telewarm) as stranger:
        assert (await stranger.get("/readyz")).json()["checks"] == {**READY, "worker": True}
        await telewarm.worker.stop()
        assert (await stranger.get("/readyz")).json()["checks"] == READY


async def test_a_worker_that_drains_is_not_ready(telewarm: Telewarm, sandbox: Sandbox) -> None:
    session = await add_bot(telewarm)
    sandbox.state.faults.add(Rule(action="hang", method="sendPhoto", seconds=0.5))
    await add_photos(telewarm, session, 1)

    async def begun() -> bool:
        return bool(sandbox.state.stats.total.calls["sendPhoto"])

    await until(telewarm, begun)
    stopping = asyncio.create_task(telewarm.worker.stop())
    await clock.sleep(0)
    async with asked_anew(telewarm) as stranger:
        assert "worker" in refusal(await stranger.get("/readyz"), 503, "NOT_READY")
    assert await stopping


async def no_store(telewarm: Telewarm) -> None:
    folder = telewarm.settings.store_folder
    folder.rmdir()
    folder.write_text("no folder any more")


async def no_spool(telewarm: Telewarm) -> None:
    for path in (telewarm.settings.telewarm_data / "spool" / "incoming").iterdir():
        if path.is_dir():
            path.rmdir()


async def unmigrated(telewarm: Telewarm) -> None:
    await telewarm.pool.execute("DELETE FROM alembic_version")


@pytest.mark.parametrize(
    ("breaks", "name", "cure"),
    [
        (no_store, "store", "Check that it is mounted"),
        (no_spool, "spool", "check its disk, its rights and TELEWARM_DATA"),
        (unmigrated, "migrations", "run `telewarm migrate`"),
    ],
)
async def test_what_is_missing_is_named_and_its_cure_told_to_who_has_a_token(
    api: Api, breaks: Callable[[Telewarm], Awaitable[None]], name: str, cure: str
) -> None:
    await breaks(api.telewarm)
    with capture_logs() as logs:  # as `telewarm serve` and `telewarm worker` do at their start
        await api.telewarm.checks.log_problems()
    [reported] = [entry for entry in logs if entry["event"] == "dependency_unavailable"]
    assert (reported["dependency"], reported["log_level"], cure in reported["error"]) == (name, "warning", True)
    async with asked_anew(api.telewarm) as stranger:
        answer = await stranger.get("/readyz")
        assert refusal(answer, 503, "NOT_READY") == f"not there: {name}"
        assert answer.json()["checks"] == {**READY, name: False}
        assert set(answer.json()) == {"ok", "error", "message", "checks", "request_id"}
        answer = await stranger.get("/health", headers=BEARER)
    refusal(answer, 503, "NOT_READY")
    assert answer.json()["status"] == "down"
    assert {key: found["status"] == "ok" for key, found in answer.json()["checks"].items()} == {
        **READY,
        name: False,
        "telegram": True,
    }
    assert cure in answer.json()["checks"][name]["message"]


async def test_without_the_database_it_lives_but_is_not_ready(without_database: Api) -> None:
    async with asked_anew(without_database.telewarm) as stranger:
        assert (await stranger.get("/healthz")).json() == {"ok": True}
        assert refusal(await stranger.get("/readyz"), 503, "NOT_READY") == "not there: database, migrations"
        body = (await stranger.get("/health", headers=BEARER)).json()
    assert body["checks"]["store"]["status"] == "ok"
    assert (body["queue"], body["bots"]) == (None, None)
    assert body["process"]["memory_bytes"] > 1_000_000


async def test_it_tells_what_shuts_the_decoders_in_once_one_runs(api: Api, demo_files: dict[str, DemoFile]) -> None:
    async def reported() -> object:
        return (await api.client.get("/health")).json()["process"]["decoder_isolation"]

    assert await reported() is None
    await api.telewarm.library.probe.facts(demo_files["note.ogg"].path)
    held = await reported()
    assert isinstance(held, list)
    assert {"rlimits"} <= {*held} <= ISOLATION_LAYERS | {"nobody"}


async def test_how_it_does_is_for_who_may_read(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    async with governing(telewarm) as governed:
        reader = await governed.client(await governed.make("monitor", Role.READ))
        assert (await reader.get("/health")).status_code == 200
        assert (await reader.head("/health")).status_code == 200
        refusal(await (await governed.client(None)).get("/health"), 401, "UNAUTHORIZED")


async def test_health_tells_what_an_operator_wants_to_know(api: Api) -> None:
    telewarm = api.telewarm
    session = await telewarm.bots.by_slug("shop")
    await api.add_photo()
    await bots.pause(telewarm.pool, session.bot.id, None, 30)
    await bots.pause(telewarm.pool, session.bot.id, ChatId(7), 60)
    await bots.set_paused(telewarm.pool, session.bot.id, paused=True)

    answer = await api.client.get("/health")

    body = answer.json()
    assert answer.status_code == 200
    assert list(body)[:6] == ["ok", "status", "timestamp", "uptime", "version", "checks"]
    assert (body["ok"], body["status"], body["version"]) == (True, "ok", package.__version__)
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    assert set(body["checks"]) == {*READY, "telegram"}
    assert all(found["latency_ms"] >= 0 for found in body["checks"].values())
    assert body["checks"]["migrations"]["facts"] == {"revision": newest_revision()}
    assert body["checks"]["spool"]["facts"]["free_bytes"] > 0
    assert body["checks"]["telegram"]["facts"] == {"root": telewarm.settings.telegram_api_root}
    assert body["queue"]["due"] == 1
    assert body["worker"]["running"] is False
    [held] = body["bots"]["held"]
    assert (body["bots"]["count"], held["slug"], held["paused"], held["chats_waiting"]) == (1, "shop", True, 1)
    assert 0 < held["flood_wait_seconds"] <= 30 < held["longest_chat_wait_seconds"] <= 60


async def test_without_telegram_it_is_degraded_and_still_ready(telewarm_with: Opener) -> None:
    telewarm = await telewarm_with(worker=False, TELEGRAM_API_ROOT="http://127.0.0.1:1", ADMIN_API_TOKEN=ADMIN)
    async with client_of(telewarm.api()) as client:
        answer = await client.get("/health", headers=BEARER)
        assert (answer.status_code, answer.json()["ok"], answer.json()["status"]) == (200, True, "degraded")
        assert "check the network and TELEGRAM_API_ROOT" in answer.json()["checks"]["telegram"]["message"]
        assert (await client.get("/readyz")).status_code == 200


async def test_however_many_ask_one_look_answers_them_until_it_is_old() -> None:
    looks = 0

    async def look() -> Mapping[str, object]:
        nonlocal looks
        looks += 1
        await clock.sleep(0)
        return {"look": looks}

    kept, forgotten = CachedCheck(look, ttl_seconds=60), CachedCheck(look, ttl_seconds=0)
    assert {(await found).details["look"] for found in asyncio.as_completed([kept() for _ in range(50)])} == {1}
    assert [(await forgotten()).details["look"] for _ in range(2)] == [2, 3]


async def test_a_look_that_hangs_ends_and_a_bug_in_one_is_told_to_the_log() -> None:
    async def hanging() -> Mapping[str, object]:
        await asyncio.Event().wait()
        return {}

    async def wrong() -> Mapping[str, object]:
        raise KeyError("the launch code is 1234")

    async def quoting() -> Mapping[str, object]:
        raise StoreUnavailable("no bucket at https://me:hunter2@host")

    assert (await CachedCheck(hanging, timeout_seconds=0.01)()).error == "no answer within 0.01 s"
    with capture_logs() as logged:
        assert (await CachedCheck(wrong)()).error == BUG_MESSAGE
    assert [line["event"] for line in logged] == ["health_check_failed"]
    assert (await CachedCheck(quoting)()).error == "no bucket at https://me:<password>@host"


async def overdue(telewarm: Telewarm) -> None:
    """Work that was due a while ago."""
    session = await add_bot(telewarm)
    await add_photos(telewarm, session, 1)
    await telewarm.pool.execute("UPDATE pgqueuer SET execute_after = now() - interval '1 minute'")


async def test_work_that_is_due_and_that_no_worker_takes_is_told(telewarm_with: Opener) -> None:
    idle_telewarm = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    await overdue(idle_telewarm)
    async with asked_anew(idle_telewarm) as stranger:
        ready = await stranger.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]) == (200, {**READY, "work": False})  # sends go on
    async with asked_anew(idle_telewarm) as admin:
        health = (await admin.get("/health", headers=BEARER)).json()
    assert health["status"] == "degraded"
    assert re.search(r"'bot-0' has been due for 6\d s", health["checks"]["work"]["message"])
    assert "telewarm worker" in health["checks"]["work"]["message"]
    found = await idle_telewarm.untaken()
    assert found is not None
    assert (found.bots, found.is_worker_running) == (["bot-0"], False)


async def test_a_process_with_a_worker_that_takes_no_work_is_not_ready(idle_telewarm: Telewarm) -> None:
    await overdue(idle_telewarm)
    await idle_telewarm.pool.execute("ALTER TABLE pgqueuer RENAME COLUMN slot TO no_slot")
    async with idle_telewarm.worker.running(), asked_anew(idle_telewarm) as stranger:
        answer = await stranger.get("/readyz")
    assert "work" in refusal(answer, 503, "NOT_READY")


async def test_work_that_is_taken_or_waits_for_a_limit_is_no_reason(telewarm: Telewarm) -> None:
    session = await add_bot(telewarm)
    await add_photos(telewarm, session, 1)
    assert await telewarm.untaken() is None
    await telewarm.worker.stop()
    await add_photos(telewarm, session, 1, first=1)
    assert await telewarm.untaken() is None  # for a few seconds that is no reason either
    await telewarm.pool.execute("UPDATE pgqueuer SET execute_after = now() + interval '1 hour'")
    assert await telewarm.untaken() is None


@pytest.mark.parametrize(
    "change", ["UPDATE pgqueuer SET status = 'picked', heartbeat = now() - interval '1 minute'", "DELETE FROM pgqueuer"]
)
async def test_the_lane_of_a_worker_that_was_killed_and_a_lane_that_nobody_queued_are_told(
    idle_telewarm: Telewarm, change: str
) -> None:
    await overdue(idle_telewarm)
    await idle_telewarm.pool.execute("UPDATE media SET queued_at = now() - interval '1 minute'")
    await idle_telewarm.pool.execute(change)
    found = await idle_telewarm.untaken()
    assert found is not None
    assert found.bots == ["bot-0"]
    assert 59 < found.oldest_seconds < 90
