"""What is in the libraries already: warmed again, or shared between bots."""

from __future__ import annotations

import pytest

from telewarm.models import MediaId
from telewarm.sandbox import Sandbox
from tests.api.conftest import BOT, MEDIA, Api, refusal
from tests.fixtures.app import until_ready
from tests.fixtures.sandbox import token


async def states(api: Api, *, slug: str = "shop") -> list[tuple[str, bool]]:
    """Of a bot's media, newest first: the state, and whether there is a file id."""
    page = (await api.client.get(f"/api/admin/bots/{slug}/media")).json()
    return [(item["state"], item["cache"]["file_id"] is not None) for item in page["media"]]


async def test_one_item_is_warmed_anew_and_keeps_its_file_id_meanwhile(warming_api: Api) -> None:
    media_id = await warming_api.add_photo()
    await until_ready(warming_api.telewarm, MediaId(media_id))
    await warming_api.telewarm.worker.stop()

    answer = await warming_api.client.post(f"/api/admin/media/{media_id}/rewarm")

    assert (answer.status_code, answer.json()["ok"]) == (200, True)
    item = answer.json()["media"]
    assert (item["media_id"], item["state"], item["cache"]["file_id"] is not None) == (media_id, "warming", True)


async def test_what_failed_and_whole_libraries_are_warmed_anew(api: Api) -> None:
    await api.client.post("/api/admin/bots", json={**BOT, "slug": "news", "token": token(1)})
    for seed in range(3):
        await api.add_photo(seed)
    assert (await api.client.post("/api/admin/bots/news/media/share", json={"source": "shop"})).json()["count"] == 3
    await api.telewarm.pool.execute("UPDATE media SET state = 'error' WHERE id % 3 <> 0")

    of_one = await api.client.post(f"{MEDIA}/rewarm", json={"which": "failed"})
    of_all = await api.client.post("/api/admin/media/rewarm", json={"which": "failed"})
    nothing = await api.client.post("/api/admin/media/rewarm", json={"which": "all"})

    assert [answer.json() for answer in (of_one, of_all, nothing)] == [
        {"ok": True, "count": 2},
        {"ok": True, "count": 2},
        {"ok": True, "count": 0},  # they are due already
    ]


async def test_media_are_shared_with_another_bot_which_forwards_them(warming_api: Api, sandbox: Sandbox) -> None:
    api = warming_api
    await api.client.post("/api/admin/bots", json={**BOT, "slug": "news", "token": token(1)})
    ids = [await api.add_photo(seed) for seed in range(3)]
    await until_ready(api.telewarm, *map(MediaId, ids))

    answer = await api.client.post("/api/admin/bots/news/media/share", json={"source": "shop", "media_ids": ids[:2]})
    again = await api.client.post("/api/admin/bots/news/media/share", json={"source": "shop", "media_ids": ids[:2]})

    assert (answer.json(), again.json()) == ({"ok": True, "count": 2}, {"ok": True, "count": 0})
    copies = (await api.client.get("/api/admin/bots/news/media")).json()["media"]
    await until_ready(api.telewarm, *(MediaId(copy["media_id"]) for copy in copies))
    assert (sandbox.state.stats.total.uploads, sandbox.state.stats.total.forwards) == (3, 2)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("media/12345/rewarm", {}, 404, "NOT_FOUND"),
        ("media/0/rewarm", {}, 422, "BAD_REQUEST"),
        ("media/rewarm", {"which": "some"}, 422, "BAD_REQUEST"),
        ("bots/shop/media/rewarm", {}, 422, "BAD_REQUEST"),
        ("bots/nobody/media/rewarm", {"which": "all"}, 404, "NOT_FOUND"),
        ("bots/shop/media/share", {"source": "nobody"}, 404, "NOT_FOUND"),
        ("bots/shop/media/share", {"source": "a\x00b"}, 404, "NOT_FOUND"),
        ("bots/shop/media/share", {"source": "shop", "media_ids": [0]}, 422, "BAD_REQUEST"),
        ("bots/shop/media/share", {"source": "shop", "media_ids": [2**63]}, 422, "BAD_REQUEST"),
        ("bots/shop/media/share", {"source": "shop", "media_ids": [True]}, 422, "BAD_REQUEST"),
    ],
)
async def test_what_cannot_be_warmed_anew_or_shared_is_refused(
    api: Api, path: str, body: dict[str, object], status: int, code: str
) -> None:
    refusal(await api.client.post(f"/api/admin/{path}", json=body), status, code)


async def test_sharing_nothing_or_with_oneself_changes_nothing(api: Api) -> None:
    await api.add_photo()
    for body in ({"source": "shop"}, {"source": "shop", "media_ids": []}, {"source": "shop", "media_ids": [2**62]}):
        assert (await api.client.post(f"{MEDIA}/share", json=body)).json() == {"ok": True, "count": 0}
    assert await states(api) == [("warming", False)]
