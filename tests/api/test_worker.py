"""The worker and a bot's background work, over HTTP."""

from __future__ import annotations

from telewarm.database import media
from telewarm.models import MediaId, MediaState
from tests.api.conftest import Api
from tests.fixtures.app import until_ready

PREWARM = "/api/admin/media/prewarm"


async def test_the_worker_is_started_looked_at_and_stopped(api: Api) -> None:
    at_first = (await api.client.get(f"{PREWARM}/status")).json()
    assert (at_first["ok"], at_first["worker"]["running"], at_first["worker"]["since"]) == (True, False, None)

    started = (await api.client.post(f"{PREWARM}/start")).json()
    assert (started["changed"], started["worker"]["running"]) == (True, True)
    assert (started["worker"]["interval_ms"], started["worker"]["concurrency"]) == (2000, 5)
    assert (await api.client.post(f"{PREWARM}/start")).json()["changed"] is False
    await until_ready(api.telewarm, MediaId(await api.add_photo()))

    stopped = (await api.client.post(f"{PREWARM}/stop")).json()
    assert (stopped["changed"], stopped["worker"]["running"], stopped["worker"]["lanes"]) == (True, False, [])
    assert (await api.client.post(f"{PREWARM}/stop")).json()["changed"] is False


async def test_a_paused_bot_keeps_what_is_added_for_later(warming_api: Api) -> None:
    api = warming_api
    assert (await api.client.post("/api/admin/bots/shop/pause")).json() == {"ok": True, "changed": True}
    assert (await api.client.post("/api/admin/bots/shop/pause")).json() == {"ok": True, "changed": False}
    media_id = MediaId(await api.add_photo())
    assert (await media.get(api.telewarm.pool, media_id)).state is MediaState.WARMING

    assert (await api.client.post("/api/admin/bots/shop/resume")).json() == {"ok": True, "changed": True}
    await until_ready(api.telewarm, media_id)


async def test_pausing_an_unknown_bot_is_not_found(api: Api) -> None:
    assert (await api.client.post("/api/admin/bots/nobody/pause")).status_code == 404
