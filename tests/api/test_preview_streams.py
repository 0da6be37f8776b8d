"""Media streamed out: in flat memory wherever they are, whole or visibly broken, and let go of."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.api.routes import preview
from telewarm.storage.config import S3Config
from tests.api.conftest import ADMIN, BEARER, Api, client_of, refusal, serving
from tests.api.test_previews import add, preview_of
from tests.fixtures.app import Opener, add_bot
from tests.fixtures.objects import ACCESS_KEY_ID, SECRET_ACCESS_KEY, bucket_at, free_ports
from tests.store.test_unavailable import serving as misbehaving


def s3_environ(config: S3Config) -> dict[str, str]:
    return {
        "S3_ENDPOINT": config.endpoint,
        "S3_BUCKET": config.bucket,
        "S3_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "S3_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    }


def elsewhere(api: Api, data: Path, config: S3Config) -> dict[str, str]:
    """The same database and encryption key, another data folder with an empty disk cache, and another store."""
    key = (api.telewarm.settings.telewarm_data / "encryption.key").read_text()
    return {"TELEWARM_DATA": str(data), "ENCRYPTION_KEY": key, **s3_environ(config)}


async def drain(answer: httpx.Response, into: list[bytes]) -> None:
    async for chunk in answer.aiter_raw():
        into.append(chunk)  # noqa: PERF401 - what came before it breaks is kept


async def test_an_object_that_is_gone_is_a_404_and_an_outage_a_503_before_any_byte(
    api: Api, telewarm_with: Opener, rclone: S3Config, tmp_path: Path
) -> None:
    media_id = await add(api, os.urandom(1 << 10), kind="document")  # bytes that no other test put in the bucket
    for config, status, code in (
        (rclone, 404, "OBJECT_MISSING"),
        (bucket_at(free_ports(1)[0]), 503, "STORE_UNAVAILABLE"),
    ):
        environ = elsewhere(api, tmp_path / code, config)
        telewarm = await telewarm_with(environ, worker=False, ADMIN_API_TOKEN=ADMIN)
        async with client_of(telewarm.api(), **BEARER) as client:
            refusal(await client.get(preview_of(media_id)), status, code)
            refusal(await client.get(preview_of(media_id), headers={"Range": "bytes=5-"}), status, code)
            assert (await client.head(preview_of(media_id))).status_code == status


async def test_a_store_that_breaks_in_the_middle_breaks_the_connection(
    api: Api, telewarm_with: Opener, tmp_path: Path
) -> None:
    data = os.urandom(3 << 20)
    media_id = await add(api, data, kind="document")

    async def half(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(
            status=206,
            headers={
                "Content-Length": str(len(data)),
                "Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}",
                "ETag": '"e"',
                "Last-Modified": "Wed, 04 Mar 2026 12:00:00 GMT",
            },
        )
        await answer.prepare(request)
        await answer.write(data[: 1 << 20])
        assert request.transport is not None
        request.transport.abort()
        return answer

    got: list[bytes] = []
    with capture_logs() as logged:
        async with misbehaving(half) as config:
            environ = elsewhere(api, tmp_path / "elsewhere", config)
            telewarm = await telewarm_with(environ, worker=False, ADMIN_API_TOKEN=ADMIN)
            async with (
                serving(telewarm.api()) as url,
                httpx.AsyncClient(base_url=url, headers=BEARER) as client,
                client.stream("GET", preview_of(media_id)) as answer,
            ):
                assert answer.status_code == 200
                with pytest.raises(httpx.RemoteProtocolError):
                    await drain(answer, got)
    assert 0 < sum(map(len, got)) < len(data)
    assert [one["code"] for one in logged if one["event"] == "preview_stream_aborted"] == ["STORE_UNAVAILABLE"]


LARGE = 64 << 20


@pytest.mark.timeout(60)
@pytest.mark.parametrize("where", ["spool", "folder", "bucket"])
async def test_the_memory_does_not_grow_with_a_file_that_streams_out(
    telewarm_with: Opener, rclone: S3Config, where: str
) -> None:
    environ = {"ADMIN_API_TOKEN": ADMIN, "TELEGRAM_API_LOCAL": "true"}
    environ |= s3_environ(rclone) if where == "bucket" else {}
    telewarm = await telewarm_with(environ, worker=False)
    piece = os.urandom(1 << 20)
    async with telewarm.library.receive() as incoming:
        for _ in range(LARGE >> 20):
            await incoming.write(piece)
        session = await add_bot(telewarm)
        media_id = (await telewarm.library.add(session.bot, incoming)).item.id
    if where != "spool":  # another process has nothing in its spool that it knows
        telewarm = await telewarm_with(environ, worker=False)
    process, before, most, digest = psutil.Process(), 0, 0, hashlib.sha256()
    async with serving(telewarm.api()) as url, httpx.AsyncClient(base_url=url, headers=BEARER) as client:
        async with client.stream("GET", preview_of(media_id)) as answer:
            got = 0
            async for chunk in answer.aiter_raw():
                digest.update(chunk)
                got += len(chunk)
                if not before and got > LARGE // 4:  # what the first megabytes need is there by now
                    gc.collect()
                    before = process.memory_info().rss
                most = max(most, process.memory_info().rss)
        assert (got, digest.hexdigest()) == (LARGE, hashlib.sha256(piece * (LARGE >> 20)).hexdigest())
        seek = {"Range": f"bytes={LARGE - 1_500_000}-{LARGE - 1_000_000}"}
        assert (await client.get(preview_of(media_id), headers=seek)).content == (piece * 2)[-1_500_000:-999_999]
    assert most - before < 16 << 20


async def test_a_caller_that_goes_away_or_stands_still_lets_go_of_the_file(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(8 << 20)
    media_id = await add(api, data, kind="document")
    blob = api.telewarm.settings.telewarm_data / "spool" / "blobs" / hashlib.sha256(data).hexdigest()

    def held() -> bool:
        return any(file.path == str(blob) for file in psutil.Process().open_files())

    async def until(*, is_held: bool) -> None:
        while held() is not is_held:
            await clock.sleep(0.01)

    async with serving(api.telewarm.api()) as url:
        host = urlsplit(url)
        for patience in (3600.0, 0.2):
            monkeypatch.setattr(preview, "CHUNK_TIMEOUT_SECONDS", patience)
            _, writer = await asyncio.open_connection(host.hostname, host.port, limit=1024)
            request = (
                f"GET {preview_of(media_id)} HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
            )
            writer.write(request.encode())
            await until(is_held=True)
            if patience == 3600.0:
                writer.transport.abort()
            await until(is_held=False)
            writer.transport.abort()
