"""What goes wrong at the wall is named, with its cure, in bounded time, and never shows a secret."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import pytest
from aiohttp import web

from telewarm import clock
from telewarm.errors import ObjectCorrupt, StoreUnavailable
from telewarm.storage.config import FolderConfig, S3Config
from telewarm.storage.object_store import BlobStore
from tests.fixtures.objects import SECRET_ACCESS_KEY, bucket_at, free_ports

Call = Callable[[BlobStore], Awaitable[object]]


async def drain(store: BlobStore) -> None:
    async for _ in store.stream("no/such/key"):
        pass


CALLS: list[Call] = [
    lambda store: store.put_bytes("key", b"value"),
    drain,
    lambda store: store.size("key"),
    lambda store: store.delete("key"),
    lambda store: store.check_writable(),
]
calls = pytest.mark.parametrize("call", CALLS, ids=["put", "stream", "size", "delete", "check"])


async def refusal(config: S3Config | FolderConfig, call: Call, *, answer: float = 10) -> str:
    """The message of the StoreUnavailable that the call ends in, after checking what all of them share."""
    began = clock.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        await call(BlobStore.open(config, timeout_seconds=answer))
    assert clock.monotonic() - began < 8
    if isinstance(config, S3Config):
        assert repr(config.bucket) in str(caught.value)
        assert str(config.url.hostname) in str(caught.value)
        assert config.secret_access_key not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@calls
async def test_nobody_listening_says_to_check_the_endpoint(call: Call) -> None:
    assert "no connection: check the endpoint" in await refusal(bucket_at(free_ports(1)[0]), call)


@calls
async def test_a_name_that_does_not_resolve_says_to_check_the_endpoint(call: Call) -> None:
    config = replace(bucket_at(1), endpoint="http://no-such-host.invalid")
    assert "no connection: check the endpoint" in await refusal(config, call)


@calls
async def test_a_wrong_secret_says_to_check_the_credentials(bucket: S3Config, call: Call) -> None:
    message = await refusal(replace(bucket, secret_access_key=SECRET_ACCESS_KEY + "?"), call)
    assert "secret access key" in message


@calls
async def test_an_unknown_access_key_says_to_check_the_credentials(bucket: S3Config, call: Call) -> None:
    assert "access key id" in await refusal(replace(bucket, access_key_id="nobody"), call)


@pytest.mark.parametrize("call", [CALLS[0], CALLS[1], CALLS[3], CALLS[4]], ids=["put", "stream", "delete", "check"])
async def test_a_missing_bucket_says_to_make_it(bucket: S3Config, call: Call) -> None:
    assert "there is no such bucket: make it" in await refusal(replace(bucket, bucket="no-such-bucket"), call)


async def test_the_check_tells_a_wrong_secret_from_an_unknown_key(bucket: S3Config) -> None:
    wrong = await refusal(replace(bucket, secret_access_key="another-secret"), CALLS[-1])
    unknown = await refusal(replace(bucket, access_key_id="nobody"), CALLS[-1])
    assert "correct the secret access key" in wrong
    assert "the access key id is unknown" in unknown


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[S3Config]:
    """A server that misbehaves as told."""
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    [port] = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield bucket_at(port)
    finally:
        await runner.cleanup()


@calls
async def test_a_silent_server_is_given_up_in_time(call: Call) -> None:
    given_up = asyncio.Event()

    async def silent(_: web.Request) -> web.StreamResponse:
        await given_up.wait()
        return web.Response(status=503)

    async with serving(silent) as config:
        assert "stopped answering" in await refusal(config, call, answer=0.2)
        given_up.set()


@calls
async def test_a_broken_server_says_to_try_again(call: Call) -> None:
    async def broken(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    async with serving(broken) as config:
        assert "the server failed" in await refusal(config, call)


async def test_a_stream_that_breaks_off_is_no_shorter_object() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000000", "ETag": '"e"'})
        await answer.prepare(request)
        await answer.write(b"x" * 300_000)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with serving(cut) as config:
        await refusal(config, drain, answer=2)


class Shelf:
    """An S3 server that may damage what it is given, and names ETags as it likes."""

    def __init__(self, *, damage: bool, etag: str | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self._damage = damage
        self._etag = etag

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "PUT":
            body = await request.read()
            self.objects[request.path] = body[:-1] + b"?" if self._damage else body
        found = self.objects.get(request.path)
        if found is None:
            return web.Response(status=404)
        if request.method == "DELETE":
            del self.objects[request.path]
            return web.Response(status=204)
        etag = self._etag or md5(found, usedforsecurity=False).hexdigest()
        headers = {"ETag": f'"{etag}"', "Last-Modified": "Wed, 04 Mar 2026 12:00:00 GMT"}
        return web.Response(body=b"" if request.method == "PUT" else found, headers=headers)


@pytest.mark.parametrize("etag", [None, "0" * 32])
async def test_a_blob_that_arrives_damaged_is_deleted_and_reported(etag: str | None) -> None:
    shelf = Shelf(damage=True, etag=etag)
    async with serving(shelf.answer) as config:
        with pytest.raises(ObjectCorrupt, match="arrived damaged"):
            await BlobStore.open(config).put_bytes("media/a.jpg", b"a photo")
    assert shelf.objects == {}


async def test_where_etags_are_no_md5_the_bytes_are_read_back() -> None:
    shelf = Shelf(damage=False, etag="0" * 32)
    async with serving(shelf.answer) as config:
        store = BlobStore.open(config)
        assert await store.put_bytes("media/a.jpg", b"a photo")
        assert not await store.put_bytes("media/a.jpg", b"a photo")
        assert await store.put_bytes("media/a.jpg", b"a phot0")


async def test_a_folder_that_cannot_be_written_says_what_to_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "Check that it is mounted" in await refusal(FolderConfig(root=tmp_path / "file" / "in"), CALLS[0])


async def test_a_folder_that_vanishes_under_us_is_made_again(tmp_path: Path) -> None:
    store = BlobStore.open(FolderConfig(root=tmp_path / "library"))
    (tmp_path / "library").rmdir()
    assert await store.put_bytes("key", b"value")


async def test_what_the_environment_says_of_aws_is_not_heard(bucket: S3Config, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_SESSION_TOKEN": "token",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_REGION": "eu-west-3",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    await BlobStore.open(bucket).check_writable()
