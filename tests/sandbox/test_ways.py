"""Files by URL and by path (facts 1.1, 1.2, 4.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from telewarm.demo.media import DemoFile
from telewarm.sandbox import Config, Sandbox
from tests.fixtures.media import jpeg, video
from tests.fixtures.sandbox import SandboxWith
from tests.sandbox.client import USER, call

FAILED = (400, "Bad Request: failed to get HTTP URL content")
WRONG_TYPE = (400, "Bad Request: wrong type of the web page content")


@dataclass
class Site:
    """A web server on loopback: what it serves and what it was asked for."""

    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        if request.path == "/moved":
            raise web.HTTPFound(request.query["to"])
        if request.path not in self.files:
            raise web.HTTPNotFound
        body, content_type = self.files[request.path]
        return web.Response(body=body, content_type=content_type)


@pytest.fixture
async def site(demo_files: dict[str, DemoFile], tmp_path: Path) -> AsyncIterator[Site]:
    silent = video(tmp_path / "silent.mp4").read_bytes()
    served = Site(
        {
            "/a.jpg": (jpeg(1), "image/jpeg"),
            "/huge.jpg": (jpeg(1) + bytes(5 << 20), "image/jpeg"),
            "/silent.mp4": (silent, "video/mp4"),
            "/film.mp4": (demo_files["film.mp4"].path.read_bytes(), "video/mp4"),
            "/huge.mp4": (silent + bytes(20 << 20), "video/mp4"),
            "/a.pdf": (demo_files["leaflet.pdf"].path.read_bytes(), "application/pdf"),
            "/note.ogg": (demo_files["note.ogg"].path.read_bytes(), "audio/ogg"),
            "/note.bin": (demo_files["note.ogg"].path.read_bytes(), "application/octet-stream"),
            "/empty.pdf": (b"", "application/pdf"),
        }
    )
    app = web.Application()
    app.router.add_get("/{path:.*}", served.answer)
    async with TestServer(app) as server:
        served.url = f"http://127.0.0.1:{server.port}"
        yield served


@pytest.mark.parametrize(
    ("kind", "path", "returned"),
    [
        ("photo", "/a.jpg", "photo"),
        ("video", "/film.mp4", "video"),
        ("video", "/silent.mp4", "animation"),
        ("document", "/a.pdf", "document"),
        ("voice", "/note.ogg", "voice"),
        ("audio", "/note.ogg", "voice"),
        ("photo", "/moved?to=/a.jpg", "photo"),
    ],
)
async def test_a_url_is_fetched_and_becomes_a_file(
    sandbox: Sandbox, site: Site, *, kind: str, path: str, returned: str
) -> None:
    given: dict[str, Any] = {"chat_id": USER, kind: site.url + path}
    answer = await call(sandbox, f"send{kind}", **given)
    assert returned in answer.result
    assert sandbox.state.stats.total.fetches == 1
    assert sandbox.state.stats.total.uploads == 0


@pytest.mark.parametrize(
    ("kind", "path", "error"),
    [
        ("photo", "/none.jpg", FAILED),
        ("photo", "/huge.jpg", FAILED),
        ("video", "/huge.mp4", FAILED),
        ("photo", "/a.pdf", WRONG_TYPE),
        ("document", "/a.jpg", WRONG_TYPE),
        ("document", "/empty.pdf", WRONG_TYPE),
        ("voice", "/note.bin", WRONG_TYPE),
        ("video_note", "/film.mp4", (400, "Bad Request: can't upload file by URL")),
        ("photo", "/moved?to=http://192.0.2.1/a.jpg", FAILED),
        ("photo", "/moved?to=/moved?to=/moved", FAILED),
    ],
)
async def test_a_url_that_will_not_do_is_refused(
    sandbox: Sandbox, site: Site, *, kind: str, path: str, error: tuple[int, str]
) -> None:
    given: dict[str, Any] = {"chat_id": USER, kind: site.url + path}
    answer = await call(sandbox, f"send{kind.replace('_', '')}", **given)
    assert answer.error == error


@pytest.mark.parametrize("url", ["http://192.0.2.1/a.jpg", "https://example.org/a.jpg", "example.org/a.jpg"])
async def test_no_other_machine_is_ever_asked(sandbox: Sandbox, url: str) -> None:
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=url)).error == FAILED


async def test_a_url_is_remembered_failures_too_until_the_query_changes(sandbox: Sandbox, site: Site) -> None:
    late: dict[str, Any] = {"chat_id": USER, "photo": f"{site.url}/late.jpg"}
    assert (await call(sandbox, "sendPhoto", **late)).error == FAILED
    site.files["/late.jpg"] = (jpeg(2), "image/jpeg")
    assert (await call(sandbox, "sendPhoto", **late)).error == FAILED
    late["photo"] += "?again"
    for _ in range(2):
        assert (await call(sandbox, "sendPhoto", **late)).status == 200
    assert site.asked == ["/late.jpg", "/late.jpg?again"]


async def test_a_signed_url_is_fetched_as_it_was_signed(sandbox: Sandbox, site: Site) -> None:
    signed = "/a.jpg?X-Amz-Credential=key%2F20260101%2Fauto&X-Amz-Signature=ab%20cd"
    assert (await call(sandbox, "sendPhoto", chat_id=USER, photo=site.url + signed)).status == 200
    assert site.asked == [signed]


async def test_a_silent_video_by_url_fails_an_album(sandbox: Sandbox, site: Site) -> None:
    media = [{"type": "video", "media": f"{site.url}/silent.mp4"}]
    answer = await call(sandbox, "sendMediaGroup", chat_id=USER, media=media)
    inner = '"Wrong file identifier/HTTP URL specified"'
    assert answer.error == (400, f"Bad Request: failed to send message #1 with the error message {inner}")


async def test_a_local_server_reads_paths_and_tells_them(sandbox_with: SandboxWith, tmp_path: Path) -> None:
    local = await sandbox_with(Config(local=True))
    path = tmp_path / "a file.jpg"
    path.write_bytes(jpeg(1))
    for uri in (path.as_uri(), f"file://localhost{path}", f"file:{path}"):
        assert "photo" in (await call(local, "sendPhoto", chat_id=USER, photo=uri)).result
    sent = await call(local, "sendDocument", chat_id=USER, document=path.as_uri())
    found = await call(local, "getFile", file_id=sent.result["document"]["file_id"])
    assert found.result["file_path"] == str(path)
    assert local.state.stats.total.upload_bytes == 0
    missing = await call(local, "sendPhoto", chat_id=USER, photo="file:///nowhere/a.jpg")
    assert missing.error == (400, "Bad Request: wrong file identifier/HTTP URL specified")


async def test_a_file_past_20_mb_cannot_be_fetched_back(sandbox: Sandbox) -> None:
    files = {"document": ("a.bin", bytes((20 << 20) + 1))}
    message = (await call(sandbox, "sendDocument", chat_id=USER, files=files)).result
    answer = await call(sandbox, "getFile", file_id=message["document"]["file_id"])
    assert answer.error == (400, "Bad Request: file is too big")
