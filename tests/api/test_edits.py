"""Media renamed, deleted, warmed again by id, found: over HTTP."""

from __future__ import annotations

import os

from telewarm import clock
from telewarm.api.schemas.media_and_bots import (
    AddedMedia,
    CollectResponse,
    DeletedMedia,
    MediaPage,
    MediaResponse,
    RenamedMedia,
)
from telewarm.database.warmups import record_ready
from telewarm.models import Kind, MediaId
from tests.api.conftest import BOT, MEDIA, Api, refusal
from tests.fixtures import odd_media
from tests.fixtures.rows import uploaded
from tests.fixtures.sandbox import token

ONE = "/api/admin/media"


async def test_an_item_is_renamed(api: Api) -> None:
    media_id = await api.add_photo()
    for given, kept in (("  кот\n🐈.jpg ", "кот🐈.jpg"), ("x" * 300, "x" * 255), (None, None)):
        answer = (await api.client.patch(f"{ONE}/{media_id}", json={"name": given})).json()
        MediaResponse.model_validate(answer)
        assert answer["media"]["name"] == kept
    refusal(await api.client.patch(f"{ONE}/{media_id}", json={"name": "\n"}), 400, "BAD_REQUEST")
    for body in ({}, {"name": 7}, {"name": ["a"]}):
        refusal(await api.client.patch(f"{ONE}/{media_id}", json=body), 422, "BAD_REQUEST")
    refusal(await api.client.patch(f"{ONE}/4711", json={"name": "x"}), 404, "NOT_FOUND")


async def test_a_new_name_says_what_recipients_see_and_is_rewarmed_when_asked(api: Api) -> None:
    added = (await api.client.post(f"{MEDIA}?name=a.pdf", content=b"%PDF-1.4")).json()
    path = f"{ONE}/{added['media_id']}"
    warm = uploaded(MediaId(added["media_id"]), "id", kind=Kind.DOCUMENT, name="a.pdf")
    await record_ready(api.telewarm.pool, [warm])

    reported = (await api.client.patch(path, json={"name": "b.pdf"})).json()
    RenamedMedia.model_validate(reported)
    assert (reported["media"]["name"], reported["media"]["sent_name"]) == ("b.pdf", "a.pdf")
    assert 'recipients still see "a.pdf"' in reported["note"]
    reported = (await api.client.patch(path, json={"name": "c.pdf", "rewarm": True})).json()
    assert (reported["media"]["state"], reported["media"]["sent_name"]) == ("warming", "a.pdf")
    assert "queued" in reported["note"]


async def test_what_became_a_document_says_why_and_a_second_name_which_one_holds(api: Api) -> None:
    fake = (await api.client.post(f"{MEDIA}?name=fake.jpg", content=b"no photo")).json()
    AddedMedia.model_validate(fake)
    assert (fake["kind"], fake["note"]) == ("document", "taken as a document: not a picture: its bytes are text/plain")
    again = (await api.client.post(f"{MEDIA}?name=b.txt", content=b"no photo")).json()
    assert (again["media_id"], again["note"]) == (fake["media_id"], 'already there as "fake.jpg"')
    refused = await api.client.post(f"{MEDIA}?kind=photo", content=odd_media.png(1 << 31, 10))
    refusal(refused, 422, "UNREADABLE_MEDIA")
    assert "--kind document" in refused.text


async def test_one_item_or_many_are_deleted_and_what_was_not_there_is_listed(api: Api) -> None:
    ids = [await api.add_photo(seed) for seed in range(4)]

    one = (await api.client.delete(f"{ONE}/{ids[0]}")).json()
    many = (await api.client.post(f"{MEDIA}/delete", json={"media_ids": [ids[1], ids[2], ids[1], 4711]})).json()

    DeletedMedia.model_validate(one)
    assert (one["deleted"], one["not_found"], one["blobs"], one["bytes"] > 100) == (1, [], 1, True)
    assert (many["deleted"], many["not_found"], many["blobs"]) == (2, [4711], 2)
    refusal(await api.client.delete(f"{ONE}/{ids[0]}"), 404, "NOT_FOUND")
    assert [item["media_id"] for item in (await api.client.get(MEDIA)).json()["media"]] == [ids[3]]
    for wrong in ([], [0], [True], ["x"], None, list(range(1, 10_002))):
        refusal(await api.client.post(f"{MEDIA}/delete", json={"media_ids": wrong}), 422, "BAD_REQUEST")


async def test_what_a_broadcast_needs_is_a_conflict_that_names_it(api: Api) -> None:
    needed, free = [await api.add_photo(seed) for seed in range(2)]
    body = {"bot": "shop", "message": {"media": [needed]}, "name": "May sale"}
    made = (await api.client.post("/api/admin/broadcasts", json=body)).json()["broadcasts"][0]
    named = f"broadcast {made['id']} (draft, 'May sale')"

    assert named in refusal(await api.client.delete(f"{ONE}/{needed}"), 409, "CONFLICT")
    many = await api.client.post(f"{MEDIA}/delete", json={"media_ids": [needed, free]})
    assert named in refusal(many, 409, "CONFLICT")
    assert (await api.client.get(MEDIA)).json()["count"] == 2
    await api.client.post(f"/api/admin/broadcasts/{made['id']}/cancel")
    assert (await api.client.delete(f"{ONE}/{needed}")).status_code == 200


async def test_items_that_are_named_are_warmed_anew(api: Api) -> None:
    await api.client.post("/api/admin/bots", json={**BOT, "slug": "news", "token": token(1)})
    ids = [await api.add_photo(seed) for seed in range(3)]
    await api.telewarm.pool.execute("UPDATE media SET state = 'error'")

    answer = await api.client.post(f"{MEDIA}/rewarm", json={"media_ids": [*ids[:2], 4711]})
    theirs = await api.client.post("/api/admin/bots/news/media/rewarm", json={"media_ids": ids})

    assert answer.json() == {"ok": True, "count": 2, "not_found": [4711]}
    assert theirs.json() == {"ok": True, "count": 0, "not_found": ids}
    assert (await api.client.get(MEDIA, params={"state": "error"})).json()["count"] == 1
    both = {"which": "all", "media_ids": ids}
    refusal(await api.client.post(f"{MEDIA}/rewarm", json=both), 422, "BAD_REQUEST")


async def test_pages_lead_through_the_library_and_a_search_through_what_fits(api: Api) -> None:
    ids = [await api.add_photo(seed) for seed in range(5)]
    for media_id in ids[::2]:
        await api.client.patch(f"{ONE}/{media_id}", json={"name": f"Holiday {media_id}.JPG"})

    async def read(**params: object) -> list[int]:
        seen: list[int] = []
        while True:
            page = (await api.client.get(MEDIA, params={"limit": 2, **params})).json()  # type: ignore[dict-item]  # httpx's own
            MediaPage.model_validate(page)
            seen += [item["media_id"] for item in page["media"]]
            if page["next"] is None:
                return seen
            params["before"] = page["next"]

    assert await read() == ids[::-1]
    assert await read(q="holiday") == ids[::2][::-1]
    assert await read(q="holiday", since="2001-01-01T00:00:00Z", until="2002-01-01T00:00:00Z") == []
    item = (await api.client.get(f"{ONE}/{ids[1]}")).json()["media"]
    assert await read(sha256=item["sha256"]) == [ids[1]]
    assert await read(since=item["created_at"]) == ids[:0:-1]
    await api.telewarm.pool.execute("UPDATE media SET last_error_code = 'OBJECT_MISSING' WHERE id = $1", ids[2])
    assert await read(error="OBJECT_MISSING") == [ids[2]]
    old_way = (await api.client.get(MEDIA, params={"limit": 2, "offset": 2})).json()
    assert [item["media_id"] for item in old_way["media"]] == [ids[2], ids[1]]
    assert (old_way["count"], old_way["limit"], old_way["offset"], old_way["next"]) == (5, 2, 2, ids[1])


WRONG = {
    "sha256=xyz": "sha256",
    "error=lower": "error",
    "since=yesterday": "since",
    "since=2031-05-01T09:00:00": "since",
    "until=9999-01-01T00:00:00Z": "until",
    "q=%00": "q",
    "q=" + "x" * 256: "q",
    "before=0": "before",
    "before=9223372036854775808": "before",
}


async def test_a_search_that_cannot_be_names_what_does_not_fit(api: Api) -> None:
    for query, field in WRONG.items():
        assert refusal(await api.client.get(f"{MEDIA}?{query}"), 422, "BAD_REQUEST").startswith(f"{field}:"), query
    for query in ("offset=1&before=5", "offset=1&q=x"):
        assert "`before`" in refusal(await api.client.get(f"{MEDIA}?{query}"), 400, "BAD_REQUEST")


async def test_objects_that_belong_to_nothing_are_looked_for(api: Api) -> None:
    folder, old = api.telewarm.settings.store_folder, clock.now().timestamp() - 2 * 86_400
    stray, young = (folder / f"media/{digit * 2}/{digit * 64}.jpg" for digit in "ab")
    for path in (stray, young):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    os.utime(stray, (old, old))

    first, second = [(await api.client.post(f"{ONE}/collect")).json() for _ in range(2)]

    CollectResponse.model_validate(first)
    assert first == {"ok": True, "blobs": 0, "strays": 1}
    assert second == {"ok": True, "blobs": 0, "strays": 0}  # it is known by now
    assert (stray.exists(), young.exists()) == (True, True)  # for a while; and for good
