"""Bodies that are wrong, hostile, huge, slow or cut off: a clear error, and nothing is left behind."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp
import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.api.app import create_api
from telewarm.api.body_memory import BodyMemoryBudget
from telewarm.api.dependencies import MAX_BODY_BYTES
from telewarm.api.error_responses import HttpError
from telewarm.api.multipart import MAX_FIELD_BYTES, SingleFileForm
from telewarm.media.names import name_of
from tests.api.conftest import ADMIN, BEARER, MEDIA, SEND, Api, client_of, files_in, refusal, serving
from tests.fixtures.app import Opener
from tests.fixtures.media import jpeg

PHOTO = jpeg(1)
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}


def part(disposition: bytes, content: bytes) -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + content + b"\r\n"


FILE = part(b'name="file"; filename="a.jpg"', PHOTO)
END = b"--x--\r\n"


async def upload(api: Api, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return await api.client.post(MEDIA, content=body, headers=headers)


WRONG_FORMS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "ends before"),
    "not a form": (b"hello", "not multipart"),
    "another boundary": (b"--y\r\n\r\n\r\n--y--\r\n", "not multipart"),
    "cut off": (FILE[:-20], "ends before"),
    "no last boundary": (FILE, "ends before"),
    "no file": (part(b'name="kind"', b"photo") + END, "`file`"),
    "two files": (FILE + FILE + END, "more than one file"),
    "an empty file": (part(b'name="file"; filename="a.jpg"', b"") + END, "empty"),
    "no file chosen": (part(b'name="file"; filename=""', b"") + END, "empty"),
}


@pytest.mark.parametrize(("body", "reported"), WRONG_FORMS.values(), ids=WRONG_FORMS)
async def test_a_wrong_form_is_told(api: Api, body: bytes, reported: str) -> None:
    assert reported in refusal(await upload(api, body, FORM), 400, "BAD_REQUEST")
    assert await api.is_empty()


LARGE_FORMS = {
    "a field": part(b'name="kind"', b"x" * (MAX_FIELD_BYTES + 1)) + FILE + END,
    "a part's headers": b"--x\r\n" + b"".join(b"A%d: %b\r\n" % (n, b"x" * 4000) for n in range(6)) + b"\r\n\r\n" + END,
}


@pytest.mark.parametrize("body", LARGE_FORMS.values(), ids=LARGE_FORMS)
async def test_what_is_not_the_file_has_bounds(api: Api, body: bytes) -> None:
    assert "at most" in refusal(await upload(api, body, FORM), 413, "TOO_LARGE")
    assert await api.is_empty()


@pytest.mark.parametrize("kind", ["hologram", "photo\x00", "ФОТО", " photo"])
async def test_an_unknown_kind_is_told_with_those_that_are_known(api: Api, kind: str) -> None:
    form = await api.client.post(MEDIA, files={"file": ("a.jpg", PHOTO)}, data={"kind": kind})
    raw = await api.client.post(MEDIA, params={"kind": kind}, content=PHOTO)
    written = await api.client.post(MEDIA, json={"kind": kind, "data_base64": base64.b64encode(PHOTO).decode()})
    for answer in (form, raw, written):
        message = refusal(answer, 422, "BAD_REQUEST")
        assert message.startswith("kind: must be")
        assert "video_note" in message
    assert await api.is_empty()


async def test_a_file_part_without_a_file_name_is_a_file(api: Api) -> None:
    answer = await upload(api, part(b'name="file"', PHOTO) + END, FORM)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'x' * 5000}"],
)
async def test_a_form_needs_a_boundary(api: Api, content_type: str) -> None:
    answer = await upload(api, FILE + END, {"Content-Type": content_type})
    assert "boundary" in refusal(answer, 400, "BAD_REQUEST")


WRONG_JSON = {
    "no JSON": b"{",
    "not UTF-8": b'{"data_base64": "\xff"}',
    "not an object": b"[]",
    "nothing in it": b"{}",
    "no text": b'{"data_base64": 5}',
    "null": b'{"data_base64": null}',
    "wrong base64": b'{"data_base64": "not base64!"}',
    "half of base64": b'{"data_base64": "YQ"}',
    "an empty file": b'{"data_base64": ""}',
    "half a character": b'{"data_base64": "YQ==", "name": "\\ud800"}',
    "deep": b'{"data_base64": "YQ==", "name": ' + b"[" * 200_000 + b"}",
    "deep objects": b'{"name":' * 200_000,
}


@pytest.mark.parametrize("body", WRONG_JSON.values(), ids=WRONG_JSON)
async def test_wrong_json_is_told(api: Api, body: bytes) -> None:
    message = refusal(await upload(api, body, JSON), 400, "BAD_REQUEST")
    assert "data_base64" in message or "empty" in message
    assert await api.is_empty()


@pytest.mark.parametrize("path", [SEND, "/api/admin/bots"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 200_000, b'{"a":' * 200_000, b'{"chat_id": ' + b"9" * 5000 + b"}", b"[]", b"1"]
)
async def test_a_json_body_that_is_none_is_told(api: Api, path: str, body: bytes) -> None:
    answer = await api.client.post(path, content=body, headers=JSON)
    refusal(answer, answer.status_code, "BAD_REQUEST")
    assert answer.status_code in {400, 422}


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "\xff/;;="}])
async def test_a_json_body_needs_its_content_type(api: Api, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = await api.client.post(SEND, content=b'{"chat_id": 1, "text": "so"}', headers=raw)
    assert "application/json" in refusal(answer, 422, "BAD_REQUEST")


@pytest.mark.parametrize("path", [SEND, "/api/admin/bots"])
async def test_a_body_that_is_no_upload_is_small(api: Api, path: str) -> None:
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += MAX_BODY_BYTES // 8
            yield b" " * (MAX_BODY_BYTES // 8)

    assert "at most" in refusal(await api.client.post(path, content=body(), headers=JSON), 413, "TOO_LARGE")
    assert taken <= MAX_BODY_BYTES * 5 // 4


@pytest.fixture
async def small_api(telewarm_with: Opener) -> AsyncIterator[Api]:
    """Takes files of at most 10,000 bytes."""
    telewarm = await telewarm_with(worker=False, ADMIN_API_TOKEN=ADMIN, TELEWARM_MAX_UPLOAD_BYTES="10000")
    async with client_of(telewarm.api(), **BEARER) as client:
        api = Api(client, telewarm)
        await api.add_bot()
        yield api


def as_form(data: bytes) -> dict[str, object]:
    return {"files": {"file": ("a.bin", data)}}


def as_raw(data: bytes) -> dict[str, object]:
    return {"content": data}


async def stall(url: str, path: str, begin: bytes, length: int) -> asyncio.StreamWriter:
    """A request whose body stands still after these bytes, all of which the server has taken."""
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode() + begin)
    await writer.drain()
    return writer


async def test_json_bodies_that_stand_still_cost_no_memory_however_many_they_are(api: Api) -> None:
    begin, length = b'{"data_base64": "' + b"A" * (24 << 20), 60 << 20
    spool = api.telewarm.settings.telewarm_data / "spool"
    async with serving(api.telewarm.api()) as url:
        warm = await stall(url, MEDIA, begin, length)
        gc.collect()
        before = psutil.Process().memory_info().rss
        writers = [warm, *[await stall(url, MEDIA, begin, length) for _ in range(5)]]
        while sum(path.stat().st_size for path in files_in(api.telewarm.settings.telewarm_data)) < 6 * len(begin):
            await clock.sleep(0.01)
        assert spool.exists()
        assert psutil.Process().memory_info().rss - before < 2 * len(begin)
        for writer in writers:
            writer.close()
        while files_in(api.telewarm.settings.telewarm_data):
            await clock.sleep(0.01)


async def test_a_large_json_body_is_decoded_whole_and_leaves_nothing_behind(api: Api) -> None:
    photo = jpeg(7) + bytes(range(256)) * 4096  # what follows the picture is no matter
    answer = await api.client.post(MEDIA, json={"data_base64": base64.b64encode(photo).decode(), "name": "é.jpg"})
    assert (answer.status_code, answer.json()["bytes"]) == (201, len(photo)), answer.text
    assert answer.json()["sha256"] == hashlib.sha256(photo).hexdigest()
    assert not list((api.telewarm.settings.telewarm_data / "spool" / "incoming").glob("**/*.part*"))
    wrong = await api.client.post(MEDIA, content=b'{"data_base64": "' + b"?" * 200_000 + b'"}', headers=JSON)
    refusal(wrong, 400, "BAD_REQUEST")


async def test_small_bodies_together_stay_within_their_budget(api: Api) -> None:
    app = api.telewarm.api()
    bodies = app.state.bodies = BodyMemoryBudget(max_bytes=3 * MAX_BODY_BYTES)
    begin = b'{"chat_id": 5, "text": "' + b"x" * (MAX_BODY_BYTES // 2)
    async with serving(app) as url:
        writers = [await stall(url, SEND, begin, MAX_BODY_BYTES) for _ in range(6)]
        async with asyncio.timeout(5):
            while bodies.used_bytes < 3 * MAX_BODY_BYTES - len(begin):
                await clock.sleep(0.01)
        async with aiohttp.ClientSession(headers=BEARER) as session:
            async with session.post(url + SEND, data=begin, headers=JSON) as answer:
                assert (answer.status, (await answer.json())["error"]) == (503, "OVERLOADED")
                assert int(answer.headers["Retry-After"]) >= 1
            async with session.get(f"{url}/api/admin/bots") as answer:
                assert answer.status == 200
            for writer in writers:
                writer.close()
            async with asyncio.timeout(5):
                while bodies.used_bytes:
                    await clock.sleep(0.01)
            async with session.post(url + SEND, json={"chat_id": 5, "text": "x"}) as answer:
                assert answer.status == 200


NAMES = {
    "as it is": ('filename="Прайс.pdf"', "Прайс.pdf"),
    "RFC 5987 alone": ("filename*=UTF-8''%D0%9F%D1%80%D0%B0%D0%B9%D1%81.pdf", "Прайс.pdf"),
    "RFC 5987 in Latin-1": ("filename*=iso-8859-1'en'caf%E9.pdf", "café.pdf"),
    "both, as .NET writes them": (
        "filename=\"=?utf-8?B?0J/RgNCw0LnRgS5wZGY=?=\"; filename*=utf-8''%D0%9F%D1%80%D0%B0%D0%B9%D1%81.pdf",
        "Прайс.pdf",
    ),
    "RFC 2047 alone": ('filename="=?utf-8?B?0J/RgNCw0LnRgS5wZGY=?="', "Прайс.pdf"),
    "RFC 2047 in two words": ('filename="=?utf-8?Q?=D0=9F=D1=80?= =?utf-8?Q?=D0=B0=D0=B9=D1=81.pdf?="', "Прайс.pdf"),
    "RFC 2047 in no known charset": ('filename="=?nonsense?B?AAAA?="', "=?nonsense?B?AAAA?="),
    "in pieces": ('filename*0="Long "; filename*1="name.pdf"', "Long name.pdf"),
    "damaged, with another": ("filename=\"plain.pdf\"; filename*=nonsense''%FF", "plain.pdf"),
    "turned around": ('filename="photo\u202egpj.exe"', "photogpj.exe"),
    "with joiners": ('filename="می\u200cخواهم 👨\u200d👩\u200d👧.pdf"', "می\u200cخواهم 👨\u200d👩\u200d👧.pdf"),
}


@pytest.mark.parametrize(("said", "name"), NAMES.values(), ids=NAMES)
async def test_a_file_has_the_name_that_its_client_wrote(api: Api, said: str, name: str) -> None:
    for path in (MEDIA, f"{MEDIA}/batch"):
        body = part(f'name="file"; {said}'.encode(), PHOTO) + END
        answer = await api.client.post(path, content=body, headers=FORM)
        assert answer.status_code in {200, 201}, answer.text
    [kept] = (await api.client.get(MEDIA)).json()["media"]
    assert kept["name"] == name


def as_json(data: bytes) -> dict[str, object]:
    return {"json": {"data_base64": base64.b64encode(data).decode()}}


@pytest.mark.parametrize("way", [as_form, as_raw, as_json])
@pytest.mark.parametrize("size", [10_001, 3_000_000])
async def test_a_file_that_is_too_large_is_refused(
    small_api: Api, way: Callable[[bytes], dict[str, object]], size: int
) -> None:
    answer = await small_api.client.request("POST", MEDIA, **way(bytes(size)))  # type: ignore[arg-type]  # httpx's own
    assert "at most 1" in refusal(answer, 413, "TOO_LARGE")
    assert await small_api.is_empty()


@pytest.mark.parametrize("way", [as_form, as_raw, as_json])
async def test_a_file_of_just_the_largest_size_is_taken(
    small_api: Api, way: Callable[[bytes], dict[str, object]]
) -> None:
    answer = await small_api.client.request("POST", MEDIA, **way(b"x" * 10_000))  # type: ignore[arg-type]  # httpx's own
    assert (answer.status_code, answer.json()["bytes"]) == (201, 10_000)


async def test_a_body_that_says_it_is_too_large_is_refused_unread(small_api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        pytest.fail("the body was read")

    headers = {"Content-Length": str(10**30)}
    refusal(await small_api.client.post(MEDIA, content=body(), headers=headers), 413, "TOO_LARGE")


@pytest.mark.timeout(60)
async def test_the_memory_does_not_grow_with_a_body_that_streams_in(api: Api) -> None:
    process, before, most = psutil.Process(), 0, 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal before, most
        for number in range(640):
            yield os.urandom(65536)
            if number == 160:  # what the first megabytes need is there by now
                gc.collect()
                before = process.memory_info().rss
            most = max(most, process.memory_info().rss)

    async with (
        serving(api.telewarm.api()) as url,
        aiohttp.ClientSession(url, headers=BEARER) as session,
        session.post(MEDIA, data=body()) as answer,
    ):
        assert answer.status == 201, await answer.text()
        assert (await answer.json())["bytes"] == 640 * 65536
    assert most - before < 12 << 20


async def until(condition: Callable[[], bool]) -> None:
    """Look again and again; the test's own time limit bounds it."""
    while not condition():
        await clock.sleep(0.01)


HEADS = {
    "raw": (b"", bytes(1_000_000)),
    "form": (b"Content-Type: multipart/form-data; boundary=x\r\n", FILE[:-40] + bytes(1_000_000)),
    "json": (b"Content-Type: application/json\r\n", b'{"data_base64": "' + b"A" * 1_000_000),
}


@pytest.mark.parametrize(("head", "data"), HEADS.values(), ids=HEADS)
async def test_a_body_that_is_cut_off_leaves_nothing_behind(api: Api, head: bytes, data: bytes) -> None:
    folder = api.telewarm.settings.telewarm_data
    with capture_logs() as logged:
        async with serving(api.telewarm.api()) as url:
            host = urlsplit(url)
            _, writer = await asyncio.open_connection(host.hostname, host.port)
            request = f"POST {MEDIA} HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: Bearer {ADMIN}\r\n".encode()
            writer.write(request + head + b"Content-Length: 4000000\r\n\r\n" + data)
            await until(lambda: bool(files_in(folder)))
            writer.close()
            await until(lambda: not files_in(folder))
    assert await api.is_empty()
    assert not [line for line in logged if line["log_level"] == "error"]


async def test_a_body_that_stands_still_is_given_up(api: Api) -> None:
    telewarm = api.telewarm
    services = replace(telewarm._services(), body_stall_seconds=0.2)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await clock.sleep(3600)

    async with client_of(create_api(services), **BEARER) as client:
        refusal(await client.post(MEDIA, content=body()), 408, "TOO_SLOW")
    assert not files_in(telewarm.settings.telewarm_data)


@given(st.lists(st.binary(max_size=40), max_size=8), st.binary(max_size=60), st.binary(max_size=60))
def test_a_form_of_any_bytes_is_parsed_or_refused(cuts: list[bytes], headers: bytes, content: bytes) -> None:
    form = SingleFileForm(b"x")
    for chunk in (b"--x\r\n", headers, b"\r\n\r\n", content, *cuts, b"\r\n--x--"):
        try:
            form.feed(chunk)
        except HttpError:
            return  # anything else is a failure


@given(st.binary(min_size=1, max_size=300).filter(lambda data: b"--x" not in data), st.integers(1, 50))
def test_a_file_comes_out_of_a_form_as_it_went_in_however_it_was_cut(data: bytes, size: int) -> None:
    body = part(b'name="kind"', b"photo") + part(b'name="file"; filename="a.bin"', data) + END
    form = SingleFileForm(b"x")
    pieces = [piece for start in range(0, len(body), size) for piece in form.feed(body[start : start + size])]
    assert b"".join(pieces) == data
    assert (form.fields, form.file_name, form.had_file, form.ended) == ({"kind": "photo"}, "a.bin", True, True)


@given(st.text())
def test_a_name_that_is_kept_can_be_written_to_the_database_and_to_json(text: str) -> None:
    name = name_of(text)
    assert name is None or (1 <= len(name) <= 255 and "\x00" not in name and json.dumps(name.encode().decode()))
