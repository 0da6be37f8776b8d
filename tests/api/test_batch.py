"""Many files in one request: each judged on its own, and a half one leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm import clock
from telewarm.api.error_responses import HttpError
from telewarm.api.multipart import FileEnd, FileStart, MultiFileForm
from telewarm.api.schemas.media_and_bots import Batch as BatchAnswer
from telewarm.database import media
from telewarm.models import MediaId
from tests.api.conftest import ADMIN, BEARER, MEDIA, Api, client_of, files_in, refusal, serving
from tests.fixtures.app import Opener
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import token

BATCH = f"{MEDIA}/batch"
END = b"--x--\r\n"
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n'


def file(data: bytes, *, name: str = "a.jpg", field: str = "file") -> bytes:
    return PART % (field.encode(), name.encode(), data)


def field(name: str, value: str) -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


async def send(client: httpx.AsyncClient, *parts: bytes, **params: str) -> httpx.Response:
    return await client.post(BATCH, content=b"".join(parts), headers=FORM, params=params)


def kept(items: list[dict[str, Any]]) -> list[bool]:
    return [item["ok"] for item in items]


async def test_each_file_gets_its_own_answer_and_a_bad_one_stops_no_other(api: Api) -> None:
    await api.add_photo(0)
    answer = await send(
        api.client,
        file(jpeg(0), name="there.jpg"),
        file(jpeg(1), name="кот.jpg", field="whatever"),
        file(b"", name="empty.jpg"),
        field("kind", "photo"),
        file(b"no photo at all", name="text.txt"),
        file(jpeg(2), name=""),
        END,
    )

    assert answer.status_code == 200
    body = answer.json()
    BatchAnswer.model_validate(body)
    assert (body["ok"], body["count"], body["created"], body["existing"], body["failed"]) == (True, 5, 2, 1, 2)
    items = body["items"]
    assert [item["index"] for item in items] == [0, 1, 2, 3, 4]
    assert [item["name"] for item in items] == ["there.jpg", "кот.jpg", "empty.jpg", "text.txt", None]
    assert [item["status"] for item in items] == [200, 201, 400, 422, 201]
    assert [item.get("error") for item in items] == [None, None, "BAD_REQUEST", "MEDIA_RULE_BROKEN", None]
    assert items[1]["r2_key"] == items[1]["storage_key"]
    for item in items:
        if item["ok"]:
            found = await media.get(api.telewarm.pool, MediaId(item["media_id"]))
            assert (found.sha256, found.kind) == (item["sha256"], "photo")
    assert (await api.client.get(MEDIA)).json()["count"] == 3


async def test_a_kind_holds_for_all_files_when_the_address_says_it(api: Api) -> None:
    items = (await send(api.client, file(jpeg(1)), file(jpeg(2)), END, kind="document")).json()["items"]
    assert [item["kind"] for item in items] == ["document", "document"]
    unknown = await send(api.client, field("kind", "hologram"), file(jpeg(3)), END)
    assert "video_note" in refusal(unknown, 422, "BAD_REQUEST")
    late = await send(api.client, file(jpeg(4)), field("kind", "hologram"), END)
    assert "kind" in refusal(late, 422, "BAD_REQUEST")
    assert kept(late.json()["items"]) == [True]


@pytest.fixture
async def small(telewarm_with: Opener) -> AsyncIterator[Api]:
    """Takes files of 20,000 bytes, and three of them."""
    telewarm = await telewarm_with(
        worker=False, ADMIN_API_TOKEN=ADMIN, TELEWARM_MAX_UPLOAD_BYTES="20000", TELEWARM_MAX_BATCH_FILES="3"
    )
    async with client_of(telewarm.api(), **BEARER) as client:
        api = Api(client, telewarm)
        await api.add_bot()
        yield api


async def test_more_files_than_a_batch_may_have_are_a_413_and_those_before_are_kept(small: Api) -> None:
    answer = await send(small.client, *(file(jpeg(seed)) for seed in range(4)), END)
    assert "at most 3 files here (TELEWARM_MAX_BATCH_FILES)" in refusal(answer, 413, "TOO_LARGE")
    assert kept(answer.json()["items"]) == [True, True, True]
    assert (await small.client.get(MEDIA)).json()["count"] == 3
    kinds = [field("kind", "photo") for _ in range(40)]
    refusal(await send(small.client, *kinds, file(jpeg(9)), END), 413, "TOO_LARGE")


async def test_a_file_that_is_too_large_is_passed_over_and_leaves_nothing(small: Api) -> None:
    answer = (await send(small.client, file(bytes(50_000)), file(jpeg(1)), END)).json()
    assert [item["status"] for item in answer["items"]] == [413, 201]
    assert "TELEWARM_MAX_UPLOAD_BYTES" in answer["items"][0]["message"]
    assert len(files_in(small.telewarm.settings.telewarm_data)) == 2


BROKEN = {
    "in a file": (file(jpeg(1)) + file(jpeg(2))[:-20], [True]),
    "before the end": (file(jpeg(1)) + file(jpeg(2)), [True]),  # the next boundary has not come: perhaps there is more
    "another boundary": (file(jpeg(1)) + b"--y\r\n", []),
    "nothing": (b"", []),
    "no file": (field("kind", "photo") + END, []),
    "no form": (b"hello", []),
}


@pytest.mark.parametrize(("body", "reported"), BROKEN.values(), ids=BROKEN)
async def test_a_form_that_breaks_off_keeps_the_whole_files_before(api: Api, body: bytes, reported: list[bool]) -> None:
    answer = await send(api.client, body)
    refusal(answer, 400, "BAD_REQUEST")
    assert kept(answer.json()["items"]) == reported
    assert len(files_in(api.telewarm.settings.telewarm_data)) == 2 * len(reported)


async def test_what_is_no_form_or_for_no_bot_is_refused(api: Api) -> None:
    refusal(await api.client.post(BATCH, json={}), 400, "BAD_REQUEST")
    refusal(await api.client.post(BATCH, headers={"Content-Type": "multipart/form-data"}), 400, "BAD_REQUEST")
    nobody = await api.client.post("/api/admin/bots/nobody/media/batch", content=file(jpeg(1)) + END, headers=FORM)
    refusal(nobody, 404, "NOT_FOUND")
    assert await api.is_empty()


async def test_a_connection_that_is_cut_keeps_the_whole_files_and_nothing_of_the_half_one(api: Api) -> None:
    folder = api.telewarm.settings.telewarm_data
    async with serving(api.telewarm.api()) as url:
        host = urlsplit(url)
        _, writer = await asyncio.open_connection(host.hostname, host.port)
        head = f"POST {BATCH} HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: Bearer {ADMIN}\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 4000000\r\n\r\n"
        half = file(bytes(1_000_000))[:-200]
        writer.write(head.encode() + file(jpeg(1)) + half)
        while not any(path.stat().st_size > 900_000 for path in files_in(folder)):
            await clock.sleep(0.01)
        writer.close()
        while any(path.stat().st_size > 900_000 for path in files_in(folder)):
            await clock.sleep(0.01)
    assert len(files_in(folder)) == 2
    assert (await api.client.get(MEDIA)).json()["count"] == 1


async def test_a_store_that_is_away_is_told_for_each_file_and_nothing_is_kept(api: Api) -> None:
    folder = api.telewarm.settings.store_folder
    folder.rmdir()
    folder.write_text("in the way")
    body = (await send(api.client, file(jpeg(1)), file(jpeg(2)), END)).json()
    assert [(item["status"], item["error"]) for item in body["items"]] == [(503, "STORE_UNAVAILABLE")] * 2
    assert token(0) not in str(body)
    assert await api.telewarm.pool.fetchval("SELECT count(*) FROM media") == 0


@given(st.lists(st.binary(max_size=60).filter(lambda data: b"--x" not in data), max_size=5), st.integers(1, 50))
def test_files_come_out_of_a_form_as_they_went_in_however_it_was_cut(files: list[bytes], size: int) -> None:
    body = field("kind", "photo") + b"".join(file(data, name=f"{n}.jpg") for n, data in enumerate(files)) + END
    form, seen = MultiFileForm(b"x", max_files=5), list[bytes]()
    for start in range(0, len(body), size):
        for event in form.feed(body[start : start + size]):
            if isinstance(event, FileStart):
                assert event == FileStart(f"{len(seen)}.jpg", "photo")
                seen.append(b"")
            elif not isinstance(event, FileEnd):
                seen[-1] += event
    assert (seen, form.ended) == (files, True)


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_a_batch_of_any_bytes_is_parsed_or_refused(chunks: list[bytes]) -> None:
    form = MultiFileForm(b"x", max_files=3)
    for chunk in (b"--x\r\n", *chunks, b"\r\n--x--"):
        try:
            list(form.feed(chunk))
        except HttpError:
            return  # anything else is a failure
