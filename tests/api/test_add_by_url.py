"""Media added by URL: kept like any other, refused with the reason, and nothing of the URL is left anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from telewarm.database.connection import Pool
from telewarm.errors import FileTooLarge
from telewarm.models import Kind
from telewarm.runtime import Telewarm
from telewarm.settings import Settings
from tests.api.conftest import ADMIN, BEARER, MEDIA, Api, client_of, refusal
from tests.api.governing import AUDIT
from tests.fetch.web import PRIVATE, Web, answer, web
from tests.fixtures.app import Opener
from tests.fixtures.media import jpeg

PHOTO = jpeg(1)
SECRET = "c4n4ry-s3cr3t"


@pytest.fixture
async def net() -> AsyncIterator[Web]:
    async with web() as net:
        net.answers["/a cat.jpg"] = net.answers["/a%20cat.jpg"] = answer(PHOTO)
        net.answers["/error"] = answer(f"a page of the intranet with {SECRET}".encode(), status="401 Unauthorized")
        net.answers["/film"] = b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n"
        net.answers["/half"] = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + PHOTO
        net.answers["/text"] = answer(b"<html>log in first</html>")
        net.answers["/inside"] = answer(b"", f"Location: http://{PRIVATE}:{net.port}/", status="302 Found")
        yield net


@pytest.fixture
async def intranet(telewarm_with: Opener, net: Web) -> AsyncIterator[Api]:
    """An API whose library may fetch from private addresses, files of at most 10,000 bytes."""
    environ = {"TELEWARM_FETCH_PRIVATE": "true", "TELEWARM_FETCH_PORTS": f"1, {net.port}"}
    telewarm = await telewarm_with(environ, worker=False, ADMIN_API_TOKEN=ADMIN, TELEWARM_MAX_UPLOAD_BYTES="10000")
    async with client_of(telewarm.api(), **BEARER) as client:
        api = Api(client, telewarm)
        await api.add_bot()
        yield api


async def everything_in(pool: Pool) -> str:
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return str([await pool.fetch(f'SELECT t::text FROM "{table}" t') for (table,) in tables])  # noqa: S608 - our names


async def test_a_file_is_added_by_its_url_like_any_other_and_its_url_is_kept_nowhere(intranet: Api, net: Web) -> None:
    url = net.url(f"/a%20cat.jpg?token={SECRET}", "127.0.0.2")
    with capture_logs() as logged:
        answers = [
            await intranet.client.post(MEDIA, json={"url": url}),
            await intranet.client.post(MEDIA, json={"url": url}),
            await intranet.client.post(MEDIA, json={"url": url, "kind": "document", "name": "an other\n.jpg"}),
        ]
    assert [one.status_code for one in answers] == [201, 200, 201], answers[0].text
    assert answers[0].json()["sha256"] == hashlib.sha256(PHOTO).hexdigest()
    items = (await intranet.client.get(MEDIA)).json()["media"]
    assert [(item["kind"], item["name"]) for item in items] == [("document", "an other.jpg"), ("photo", "a cat.jpg")]
    assert [one["host"] for one in logged if one["event"] == "media_fetched"] == ["127.0.0.2"] * 3
    changes = (await intranet.client.get(AUDIT)).json()
    assert SECRET not in str(logged) + str(changes) + await everything_in(intranet.telewarm.pool)


async def test_a_program_adds_by_url_too(intranet: Api, net: Web) -> None:
    telewarm: Telewarm = intranet.telewarm
    item = await telewarm.add_url("shop", net.url("/a%20cat.jpg", "localhost").replace("localhost", "127.0.0.2"))
    assert (item.kind, item.name, item.facts.bytes) == (Kind.PHOTO, "a cat.jpg", len(PHOTO))
    with pytest.raises(FileTooLarge):
        await telewarm.add_url("shop", net.url("/film", "127.0.0.2"))


@pytest.mark.parametrize(
    ("path", "status", "code", "reported"),
    [
        ("/error", 502, "URL_WITHOUT_FILE", "HTTP 401"),
        ("/film", 413, "TOO_LARGE", "larger than the 10,000 bytes that are taken here"),
        ("/half", 502, "URL_UNREACHABLE", "before the whole file had come"),
        ("/nothing-there-as-the-server-breaks", 502, "URL_UNREACHABLE", "without an answer"),
    ],
)
async def test_what_does_not_come_is_told_and_leaves_nothing(
    intranet: Api, net: Web, *, path: str, status: int, code: str, reported: str
) -> None:
    net.answers["/nothing-there-as-the-server-breaks"] = b""
    answered = await intranet.client.post(MEDIA, json={"url": net.url(f"{path}?token={SECRET}", "127.0.0.2")})
    assert reported in refusal(answered, status, code)
    assert SECRET not in answered.text
    assert await intranet.is_empty()


async def test_a_page_that_is_no_photo_is_told_as_any_upload_is(intranet: Api, net: Web) -> None:
    answered = await intranet.client.post(MEDIA, json={"url": net.url("/text", "127.0.0.2"), "kind": "photo"})
    assert "text/plain" in refusal(answered, 422, "MEDIA_RULE_BROKEN")
    assert await intranet.is_empty()


async def test_by_default_no_private_address_and_no_other_port_is_asked(api: Api, net: Web) -> None:
    inside = [f"http://{host}/latest/meta-data/" for host in ("127.0.0.1", "169.254.169.254", "[::1]", "localhost")]
    for url in [*inside, net.url("/a%20cat.jpg", "127.0.0.2")]:
        message = refusal(await api.client.post(MEDIA, json={"url": url}), 422, "URL_REFUSED")
        assert ("TELEWARM_FETCH_P" in message) is ("169.254" not in url)  # there it would be of no use
    assert not net.requests
    assert net.intrusions == 0
    assert await api.is_empty()


async def test_a_clouds_secrets_stay_closed_even_with_the_setting(intranet: Api, net: Web) -> None:
    for host in ("169.254.169.254", "[fd00:ec2::254]", "100.100.100.200"):
        answered = await intranet.client.post(MEDIA, json={"url": f"http://{host}/latest/meta-data/"})
        refusal(answered, 422, "URL_REFUSED")
    assert not net.requests


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": None},
        {"url": 5},
        {"url": ["http://a"]},
        {"url": "http://a.example/", "data_base64": "YQ=="},
        {"url": {}},
    ],
)
async def test_a_body_has_the_bytes_or_the_url(api: Api, body: dict[str, object]) -> None:
    message = refusal(await api.client.post(MEDIA, json=body), 400, "BAD_REQUEST")
    assert "url" in message
    assert await api.is_empty()


@pytest.mark.parametrize("url", ["", " ", "x", "http://", "\x00", "http://[]@", "a" * 100_000, "http://%"])
async def test_a_url_that_is_none_is_told(api: Api, url: str) -> None:
    body = {"url": url}
    refusal(await api.client.post(MEDIA, json=body), 422, "URL_REFUSED")


async def test_a_reader_may_not_make_the_server_fetch(api: Api) -> None:
    made = await api.client.post("/api/admin/tokens", json={"name": "page", "role": "read"})
    async with client_of(api.telewarm.api(), Authorization=f"Bearer {made.json()['token']}") as reader:
        refusal(await reader.post(MEDIA, json={"url": "http://example.org/"}), 403, "FORBIDDEN")


def test_the_settings_are_off_and_checked() -> None:
    settings = Settings.from_environ({}, None)
    assert (settings.telewarm_fetch_private, settings.telewarm_fetch_ports) == (False, ())
    given = Settings.from_environ({"TELEWARM_FETCH_PORTS": "8080, 8443,8080"}, None)
    assert given.telewarm_fetch_ports == (8080, 8443)
