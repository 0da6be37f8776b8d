"""A look at media: with a token or a signed URL and never without, harmless in a browser, in ranges."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from PIL import Image
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.api.request_limits import MAX_FAILED_ATTEMPTS
from telewarm.api.routes import preview
from telewarm.api.signed_urls import url_of
from telewarm.database.tokens import Role
from telewarm.demo.media import DemoFile
from telewarm.media.preview_urls import MAX_TTL_SECONDS, PreviewUrlSigner, PreviewVariant
from telewarm.models import MediaId
from telewarm.runtime import Telewarm
from tests.api.conftest import ADMIN, BEARER, MEDIA, Api, client_of, refusal
from tests.api.governing import governing
from tests.fixtures.app import Opener
from tests.fixtures.media import jpeg

PHOTO = jpeg(1)
SHA256 = hashlib.sha256(PHOTO).hexdigest()


def preview_of(media_id: int) -> str:
    return f"/api/media/preview/{media_id}"


async def add(api: Api, data: bytes, **asked: str) -> int:
    answer = await api.client.post(MEDIA, params=asked, content=data)
    assert answer.status_code in {200, 201}, answer.text
    return int(answer.json()["media_id"])


async def signed(client: httpx.AsyncClient, media_id: int, **body: object) -> str:
    answer = await client.post(f"/api/admin/media/{media_id}/preview-url", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


def stranger(telewarm: Telewarm, address: str = "203.0.113.7") -> httpx.AsyncClient:
    """Without a token, from elsewhere."""
    transport = httpx.ASGITransport(telewarm.api(), client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url="https://warm.example.org")


async def test_a_preview_is_closed_to_strangers_which_it_was_not_in_the_node_system(api: Api) -> None:
    media_id = await api.add_photo(1)
    async with stranger(api.telewarm) as client:
        for path in (preview_of(media_id), f"{preview_of(media_id)}?thumbnail=1", f"{preview_of(media_id)}?expires=1"):
            refusal(await client.get(path), 401, "UNAUTHORIZED")
            assert (await client.head(path)).status_code == 401
        refusal(await client.post(f"/api/admin/media/{media_id}/preview-url"), 401, "UNAUTHORIZED")


async def test_a_token_to_read_opens_the_file_and_makes_urls(api: Api) -> None:
    media_id = await add(api, PHOTO, name="кот.jpg")
    async with governing(api.telewarm) as governed:
        reader = await governed.client(await governed.make("page", Role.READ))
        answer = await reader.get(preview_of(media_id))
        assert (answer.status_code, answer.content) == (200, PHOTO)
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert (await reader.get(await signed(reader, media_id))).content == PHOTO
        noted = await governed.changes()
    assert [(one["actor"], one["target"]) for one in noted[:1]] == [
        ("page", f"/api/admin/media/{media_id}/preview-url")
    ]
    headers = {
        "content-type": "image/jpeg",
        "content-length": str(len(PHOTO)),
        "content-disposition": "inline; filename=\"___.jpg\"; filename*=UTF-8''%D0%BA%D0%BE%D1%82.jpg",
        "etag": f'"{SHA256}"',
        "cache-control": "private, max-age=3600",
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    assert headers.items() <= dict(answer.headers).items()
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none';")
    assert "script" not in answer.headers["content-security-policy"]


async def test_a_signed_url_opens_its_item_to_whoever_has_it_in_every_process_until_the_key_is_rotated(
    api: Api, telewarm_with: Opener
) -> None:
    media_id, other = await add(api, PHOTO), await api.add_photo(2)
    url = await signed(api.client, media_id, seconds=60)
    elsewhere = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)  # or the same after a restart
    for telewarm in (api.telewarm, elsewhere):
        async with stranger(telewarm) as client:
            answer = await client.get(url)
            assert (answer.status_code, answer.content) == (200, PHOTO)
            assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
            assert 55 <= int(answer.headers["cache-control"].removeprefix("private, max-age=")) <= 60
            assert (await client.head(url)).status_code == 200
            assert (await client.get(f"{url}&thumbnail=1")).status_code == 200
            refusal(await client.get(url.replace(f"/{media_id}?", f"/{other}?")), 403, "BAD_SIGNATURE")
            refusal(await client.post(url), 401, "UNAUTHORIZED")
            refusal(await client.get(f"{MEDIA}?{urlsplit(url).query}"), 401, "UNAUTHORIZED")
    rotated = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN, ENCRYPTION_KEY="5e" * 32)
    async with stranger(rotated) as client:
        assert "preview-url" in refusal(await client.get(url), 403, "BAD_SIGNATURE")


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda url: f"{url}x",
        lambda url: url[:-1],
        lambda url: url.replace("expires=", "expires=1"),
        lambda url: url.replace("expires=", "expires=0"),
        lambda url: url.replace("expires=", "expires=%D9%A1"),
        lambda url: f"{url}&expires=1",
        lambda url: f"{url}&signature=x",
        lambda url: url[: url.index("expires=")] + url[url.index("signature=") :],
        lambda url: url[: url.index("signature=")] + "signature=",
        lambda url: url[: url.index("signature=")] + "signature=%ff%00",
    ],
)
async def test_a_url_that_is_not_as_it_was_signed_is_refused_even_beside_a_token(
    api: Api, spoiled: Callable[[str], str]
) -> None:
    url = spoiled(await signed(api.client, await api.add_photo(1)))
    refusal(await api.client.get(url), 403, "BAD_SIGNATURE")


async def test_a_url_that_has_expired_says_so_and_only_to_those_who_had_it(api: Api) -> None:
    media_id = MediaId(await api.add_photo(1))
    past = int(clock.now().timestamp()) - 1
    url = url_of(api.telewarm.signer.until(media_id, PreviewVariant.FILE, past))
    async with stranger(api.telewarm) as client:
        assert "has expired" in refusal(await client.get(url), 410, "URL_EXPIRED")
        guessed = url_of(PreviewUrlSigner(bytes(32)).until(media_id, PreviewVariant.FILE, past))
        refusal(await client.get(guessed), 403, "BAD_SIGNATURE")


async def test_a_url_for_the_thumbnail_does_not_show_the_file(api: Api) -> None:
    url = await signed(api.client, await api.add_photo(1), thumbnail=True)
    async with stranger(api.telewarm) as client:
        assert (await client.get(url)).status_code == 200
        refusal(await client.get(url.replace("thumbnail=1&", "")), 403, "BAD_SIGNATURE")
        refusal(await client.get(url.replace("thumbnail=1", "thumbnail=0")), 403, "BAD_SIGNATURE")
        assert "more than once" in refusal(await client.get(f"{url}&thumbnail=0"), 422, "BAD_REQUEST")


async def test_guesses_shut_an_address_out_of_signed_urls_alone_and_no_signature_is_kept(api: Api) -> None:
    url = await signed(api.client, await api.add_photo(1))
    [signature] = parse_qs(urlsplit(url).query)["signature"]
    with capture_logs() as logged:
        async with governing(api.telewarm) as governed:
            guesser = await governed.client(None, address="203.0.113.7")
            for _ in range(MAX_FAILED_ATTEMPTS):
                refusal(await guesser.get(f"{url}x"), 403, "BAD_SIGNATURE")
            assert "signatures" in refusal(await guesser.get(f"{url}x"), 429, "TOO_MANY_ATTEMPTS")
            assert (await guesser.get(url)).status_code == 200  # the right one is never shut out
            holder = await governed.client(ADMIN, address="203.0.113.7")
            assert (await holder.get(preview_of(1))).status_code == 200  # a page of others cannot shut out its reader
            assert (await (await governed.client(None, address="203.0.113.8")).get(url)).status_code == 200
            noted = await governed.changes()
    assert [(one["action"], one["status"], one["address"]) for one in noted[:1]] == [
        ("(wrong signatures)", 403, "203.0.113.7")
    ]
    assert signature not in str(logged) + str(noted)


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 200), ({"seconds": 1}, 200), ({"seconds": MAX_TTL_SECONDS}, 200), ({"seconds": 0}, 422),
     ({"seconds": 1.5}, 422),
     ({"seconds": MAX_TTL_SECONDS + 1}, 422), ({"seconds": None}, 422), ({"seconds": True}, 422),
     ({"thumbnail": "perhaps"}, 422), ({"thumbnail": 0}, 422)],
)  # fmt: skip
async def test_the_life_of_a_url_has_bounds(api: Api, body: dict[str, object], status: int) -> None:
    answer = await api.client.post(f"/api/admin/media/{await api.add_photo(1)}/preview-url", json=body)
    assert answer.status_code == status, answer.text
    if status == 200:
        seconds = body.get("seconds", preview.DEFAULT_URL_SECONDS)
        assert answer.json()["expires_in"] == seconds
        assert answer.headers["cache-control"] == "no-store"


async def test_what_is_not_there_is_a_404(api: Api) -> None:
    refusal(await api.client.get(preview_of(12345)), 404, "NOT_FOUND")
    refusal(await api.client.post("/api/admin/media/12345/preview-url"), 404, "NOT_FOUND")
    for wrong in ("0", "-1", "x", "1.5", "1/..", "٣"):
        assert (await api.client.get(preview_of(0).replace("0", wrong))).status_code in {404, 422}


EXPECTED = {
    "sunset.jpg": ("image/jpeg", "inline"),
    "waves.png": ("image/png", "inline"),
    "film.mp4": ("video/mp4", "inline"),
    "dance.gif": ("image/gif", "inline"),
    "song.mp3": ("audio/mpeg", "inline"),
    "note.ogg": ("audio/ogg", "inline"),
    "leaflet.pdf": ("application/pdf", "attachment"),
}
HOSTILE = {
    "page.html": b"<!DOCTYPE html><html><script>alert(document.domain)</script></html>",
    "picture.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "page.xhtml": b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><script/></html>',
    "script.js": b"alert(1)",
    "old.svgz": b"\x1f\x8b\x08\0\0\0\0\0\0\3abc",
    "archive.mht": b"MIME-Version: 1.0\nContent-Type: text/html\n\n<script>alert(1)</script>",
    "flash.swf": b"CWS\x09" + bytes(range(256)),
}


async def test_what_a_browser_plays_comes_as_what_it_is(api: Api, demo_files: dict[str, DemoFile]) -> None:
    for name, (mime, how) in EXPECTED.items():
        data = demo_files[name].path.read_bytes()
        answer = await api.client.get(preview_of(await add(api, data, name=name)))
        assert (answer.headers["content-type"], answer.content == data) == (mime, True), name
        assert answer.headers["content-disposition"] == f'{how}; filename="{name}"'
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_a_browser_could_run_is_a_download_of_bytes(api: Api, name: str) -> None:
    media_id = await add(api, HOSTILE[name], kind="document", name=name)
    for url in (preview_of(media_id), await signed(api.client, media_id)):
        answer = await api.client.get(url)
        assert answer.content == HOSTILE[name]
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
    refusal(await api.client.get(f"{preview_of(media_id)}?thumbnail=1"), 404, "NOT_FOUND")


async def test_a_picture_with_a_page_in_it_stays_a_picture(api: Api) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (9, 9)).save(sink, "JPEG", comment=b"<script>alert(1)</script>")
    answer = await api.client.get(preview_of(await add(api, sink.getvalue(), name="page.html")))
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("image/jpeg", "nosniff")
    assert answer.headers["content-disposition"] == 'inline; filename="page.html.jpg"'


async def test_a_thumbnail_is_small_and_made_where_there_is_none(api: Api, demo_files: dict[str, DemoFile]) -> None:
    for name in ("film.mp4", "waves.png", "sunset.jpg"):
        media_id = await add(api, demo_files[name].path.read_bytes())
        answer = await api.client.get(f"{preview_of(media_id)}?thumbnail=1")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), name
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert max(picture.size) == 320
        again = await api.client.get(f"{preview_of(media_id)}?thumbnail=1")
        assert (again.content, again.headers["etag"]) == (answer.content, answer.headers["etag"])
        assert again.headers["etag"] != (await api.client.head(preview_of(media_id))).headers["etag"]
    small = await api.client.get(f"{preview_of(await api.add_photo(1))}?thumbnail=1")
    assert (small.content, small.headers["etag"]) == (PHOTO, f'"{SHA256}"')
    for name in ("note.ogg", "leaflet.pdf"):
        media_id = await add(api, demo_files[name].path.read_bytes())
        assert "no thumbnail" in refusal(await api.client.get(f"{preview_of(media_id)}?thumbnail=1"), 404, "NOT_FOUND")


async def test_a_head_a_range_and_what_the_browser_has_already(api: Api, demo_files: dict[str, DemoFile]) -> None:
    data = demo_files["film.mp4"].path.read_bytes()
    url = preview_of(await add(api, data))
    tag = f'"{hashlib.sha256(data).hexdigest()}"'
    head = await api.client.head(url, headers={"Range": "bytes=0-1"})
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))

    middle = await api.client.get(url, headers={"Range": "bytes=1000-1999", "If-Range": tag})
    assert (middle.status_code, middle.content) == (206, data[1000:2000])
    assert middle.headers["content-range"] == f"bytes 1000-1999/{len(data)}"
    assert middle.headers["content-length"] == "1000"
    assert middle.headers["content-security-policy"].startswith("sandbox")
    end = await api.client.get(url, headers={"Range": "bytes=-5"})
    assert (end.status_code, end.content) == (206, data[-5:])
    beyond = await api.client.get(url, headers={"Range": f"bytes={len(data)}-"})
    assert f"has {len(data)} bytes" in refusal(beyond, 416, "RANGE_NOT_SATISFIABLE")
    assert beyond.headers["content-range"] == f"bytes */{len(data)}"

    known = await api.client.get(url, headers={"If-None-Match": f'"x", {tag}', "Range": "bytes=0-1"})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)


async def test_every_media_item_comes_with_a_url_to_look_at_it_that_stays_the_same_for_an_hour(
    api: Api, telewarm_with: Opener
) -> None:
    media_id = await add(api, PHOTO)
    other = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN)
    async with client_of(other.api(), **BEARER) as elsewhere, stranger(api.telewarm) as client:
        items = [(await one.get(f"/api/admin/media/{media_id}")).json()["media"] for one in (api.client, elsewhere)]
        items += (await api.client.get(MEDIA)).json()["media"]
        [url, *more] = {item["preview_url"] for item in items}
        assert len(more) <= 1  # when the hour ends just now
        assert (await client.get(url)).content == PHOTO
        assert (await client.get(f"{url}&thumbnail=1")).status_code == 200
        assert 3600 <= int(parse_qs(urlsplit(url).query)["expires"][0]) - clock.now().timestamp() + 1 <= 7201
        bot_gone = await api.client.delete("/api/admin/bots/shop")
        assert bot_gone.status_code == 200, bot_gone.text
        refusal(await client.get(url), 404, "NOT_FOUND")
