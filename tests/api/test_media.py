"""Media in, by three kinds of body, and what is told of them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import httpx
import pytest

from telewarm.demo.media import DemoFile
from telewarm.models import MediaId
from telewarm.sandbox import Sandbox
from tests.api.conftest import MEDIA, Api, refusal
from tests.fixtures.app import until_ready
from tests.fixtures.media import jpeg

WayIn = Callable[..., Awaitable[httpx.Response]]
PHOTO = jpeg(1)
SHA256 = hashlib.sha256(PHOTO).hexdigest()


async def by_multipart(api: Api, *, name: str = "a cat.jpg") -> httpx.Response:
    return await api.client.post(MEDIA, files={"file": (name, PHOTO, "image/jpeg")}, data={"kind": "photo"})


async def by_raw(api: Api, *, name: str = "a cat.jpg") -> httpx.Response:
    query = f"?kind=photo&name={quote(name)}"
    return await api.client.post(MEDIA + query, content=PHOTO, headers={"Content-Type": "image/jpeg"})


async def by_json(api: Api, *, name: str = "a cat.jpg") -> httpx.Response:
    data = base64.b64encode(PHOTO).decode()
    body = {"kind": "photo", "data_base64": data, "mime": "image/jpeg", "ext": "jpg", "name": name}
    return await api.client.post(MEDIA, json=body)


WAYS = pytest.mark.parametrize("way", [by_multipart, by_raw, by_json])


@WAYS
async def test_a_new_file_is_kept_and_warming_whatever_the_body(api: Api, way: WayIn) -> None:
    answer = await way(api)
    assert answer.status_code == 201
    body = answer.json()
    assert body == {
        "ok": True,
        "media_id": body["media_id"],
        "sha256": SHA256,
        "bytes": len(PHOTO),
        "kind": "photo",
        "state": "warming",
        "warming": True,
        "storage_key": body["storage_key"],
        "r2_key": body["storage_key"],
        "note": None,
    }
    assert SHA256 in body["storage_key"]
    item = (await api.client.get(f"/api/admin/media/{body['media_id']}")).json()["media"]
    assert (item["name"], item["bytes"], item["mime"]) == ("a cat.jpg", len(PHOTO), "image/jpeg")


@WAYS
async def test_the_same_bytes_and_kind_again_are_the_same_item(api: Api, way: WayIn) -> None:
    first = (await by_raw(api)).json()
    again = await way(api)
    assert again.status_code == 200
    assert again.json() == first


async def test_the_same_bytes_again_when_warm_upload_nothing(warming_api: Api, sandbox: Sandbox) -> None:
    media_id = MediaId((await by_raw(warming_api)).json()["media_id"])
    await until_ready(warming_api.telewarm, media_id)
    again = await by_multipart(warming_api)
    assert again.status_code == 200
    shown = {name: again.json()[name] for name in ("media_id", "state", "warming")}
    assert shown == {"media_id": media_id, "state": "ready", "warming": False}
    assert sandbox.state.stats.total.uploads == 1


async def test_the_same_bytes_as_another_kind_are_another_item(api: Api) -> None:
    photo = await api.client.post(MEDIA + "?kind=photo", content=PHOTO)
    document = await api.client.post(MEDIA + "?kind=document", content=PHOTO)
    assert document.status_code == 201
    assert document.json()["kind"] == "document"
    assert document.json()["media_id"] != photo.json()["media_id"]


@pytest.mark.parametrize("blank", ["", "?kind=", "?kind=&name="])
async def test_without_a_kind_the_bytes_decide(api: Api, blank: str) -> None:
    answer = await api.client.post(MEDIA + blank, content=PHOTO)
    assert (answer.status_code, answer.json()["kind"]) == (201, "photo")


async def test_a_warm_item_tells_its_file_id_where_the_node_client_looks(warming_api: Api) -> None:
    media_id = await warming_api.add_photo()
    await until_ready(warming_api.telewarm, MediaId(media_id))
    answer = await warming_api.client.get(f"/api/admin/media/{media_id}")
    assert answer.json()["ok"] is True
    cache = answer.json()["media"]["cache"]
    assert cache["status"] == "ready"
    assert cache["file_id"]
    assert cache["file_unique_id"]
    assert (cache["way"], cache["last_error"]) == ("upload", None)
    assert cache["warmed_at"].endswith("+00:00")


async def test_a_cold_item_tells_that_it_has_no_file_id(api: Api) -> None:
    media_id = await api.add_photo()
    cache = (await api.client.get(f"/api/admin/media/{media_id}")).json()["media"]["cache"]
    assert (cache["status"], cache["file_id"], cache["warmed_at"]) == ("warming", None, None)


async def test_the_library_is_listed_newest_first_in_pages(api: Api) -> None:
    ids = [await api.add_photo(seed) for seed in range(5)]
    page = (await api.client.get(MEDIA, params={"limit": 2, "offset": 1})).json()
    assert (page["ok"], page["count"]) == (True, 5)
    assert [item["media_id"] for item in page["media"]] == [ids[3], ids[2]]


async def test_the_library_is_filtered_by_kind_and_state(api: Api) -> None:
    photo = await api.add_photo()
    await api.client.post(MEDIA + "?kind=document", content=PHOTO)
    for query in ("?kind=photo", "?kind=photo&state=warming", "?kind=photo&state=&limit=&offset="):
        page = (await api.client.get(MEDIA + query)).json()
        assert ([item["media_id"] for item in page["media"]], page["count"]) == ([photo], 1)
    empty = (await api.client.get(MEDIA + "?state=ready")).json()
    assert empty == {"ok": True, "media": [], "count": 0, "limit": 100, "offset": 0, "next": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("offset=-1", "offset"),
        ("offset=99999999999999999999", "offset"),
        ("kind=hologram", "kind"),
        ("state=lukewarm", "state"),
        ("state=%00", "state"),
    ],
)
async def test_a_parameter_that_does_not_fit_is_named(api: Api, query: str, field: str) -> None:
    answer = await api.client.get(f"{MEDIA}?{query}")
    assert refusal(answer, 422, "BAD_REQUEST").startswith(f"{field}: must be")


@pytest.mark.parametrize("media_id", ["0", "-1", "x", str(2**63), "9" * 5000, "1.5", "%00"])
async def test_an_id_that_cannot_be_is_refused(api: Api, media_id: str) -> None:
    refusal(await api.client.get(f"/api/admin/media/{media_id}"), 422, "BAD_REQUEST")


async def test_an_item_that_is_not_there_is_a_404(api: Api) -> None:
    assert "12345" in refusal(await api.client.get("/api/admin/media/12345"), 404, "NOT_FOUND")


@pytest.mark.parametrize("slug", ["nobody", "%00", "a%00b", "%ff", "%F0%9F%90%88", "x" * 300, "..", "shop%0a"])
async def test_media_of_a_bot_that_is_not_there_are_a_404(api: Api, slug: str) -> None:
    refusal(await api.client.get(f"/api/admin/bots/{slug}/media"), 404, "NOT_FOUND")
    refusal(await api.client.post(f"/api/admin/bots/{slug}/media", content=PHOTO), 404, "NOT_FOUND")
    assert not await api.telewarm.pool.fetchval("SELECT count(*) FROM media")


NAMES = {
    "кот\u0000.jpg": "кот.jpg",
    "a\r\nb\tc.jpg": "abc.jpg",
    "\u2028": None,
    "": None,
    "x" * 300: "x" * 255,
    "🐈 \u202e.jpg": "🐈 .jpg",
}


@pytest.mark.parametrize("way", [by_raw, by_json])
@pytest.mark.parametrize(("name", "kept"), NAMES.items())
async def test_a_hostile_name_is_made_harmless(api: Api, way: WayIn, name: str, kept: str | None) -> None:
    answer = await way(api, name=name)
    assert answer.status_code == 201, answer.text
    item = (await api.client.get(f"/api/admin/media/{answer.json()['media_id']}")).json()["media"]
    assert item["name"] == kept


async def test_a_name_in_unicode_comes_through_a_form(api: Api) -> None:
    answer = await by_multipart(api, name="кот 🐈.jpg")
    item = (await api.client.get(f"/api/admin/media/{answer.json()['media_id']}")).json()["media"]
    assert item["name"] == "кот 🐈.jpg"


async def test_a_file_that_breaks_a_rule_of_telegrams_is_told_the_cure(api: Api) -> None:
    answer = await api.client.post(MEDIA + "?kind=photo", content=jpeg(0, width=2100, height=100))
    assert "document" in refusal(answer, 422, "MEDIA_RULE_BROKEN")
    assert await api.is_empty()


async def test_bytes_that_are_no_photo_are_refused_as_one(api: Api) -> None:
    answer = await api.client.post(MEDIA + "?kind=photo", content=b"no photo at all")
    assert "text/plain" in refusal(answer, 422, "MEDIA_RULE_BROKEN")
    answer = await api.client.post(MEDIA + "?kind=photo", content=PHOTO[:30])
    refusal(answer, 422, "UNREADABLE_MEDIA")
    assert await api.is_empty()


async def test_every_kind_of_the_demo_goes_in(api: Api, demo_files: dict[str, DemoFile]) -> None:
    for file in demo_files.values():
        answer = await api.client.post(MEDIA, content=file.path.read_bytes())
        assert answer.status_code == 201, (file.name, answer.text)
