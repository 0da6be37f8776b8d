"""HTTP as Telegram speaks it: any body, keep-alive, pipelines, bounds, back pressure."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import aiohttp
import psutil
import pytest

from telewarm.clock import monotonic
from telewarm.sandbox import Config, Network, Sandbox
from telewarm.sandbox.body import json_params
from tests.fixtures.sandbox import SandboxWith, token
from tests.sandbox.client import USER, Answer, call, control

SEND = f"/bot{token(0)}/sendMessage"


async def raw(sandbox: Sandbox, data: bytes) -> bytes:
    """What comes back for these bytes until the server closes."""
    host, _, port = sandbox.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def request(path: str, body: bytes = b"", *, verb: str = "POST", headers: str = "", close: bool = False) -> bytes:
    end = "Connection: close\r\n" if close else ""
    head = f"{verb} {path} HTTP/1.1\r\nHost: x\r\n{end}{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


FORM = (
    b'--b\r\ncontent-disposition: form-data; name="chat_id"\r\n\r\n777\r\n'
    b'--b\r\ncontent-disposition: form-data; name="text"\r\n\r\nhi\r\n--b--'
)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"chat_id": 777, "text": "hi", "disable_notification": true}'),
        ("application/json; charset=utf-8", b'{"chat_id": "777", "text": "hi"}'),
        ("application/x-www-form-urlencoded", b"chat_id=777&text=hi"),
        ("multipart/form-data; boundary=b", FORM),
    ],
)
async def test_parameters_come_in_every_kind_of_body(sandbox: Sandbox, content_type: str, body: bytes) -> None:
    async with aiohttp.ClientSession() as session:
        for data, encoding in ((body, None), (gzip.compress(body), "gzip"), (zlib.compress(body), "deflate")):
            headers = {"Content-Type": content_type} | ({"Content-Encoding": encoding} if encoding else {})
            async with session.post(sandbox.url + SEND, data=data, headers=headers) as response:
                assert (await response.json())["result"]["text"] == "hi"


async def test_the_query_goes_before_the_body_and_the_first_of_a_name_wins(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"{sandbox.url}{SEND}?text=query&text=second"
        async with session.post(url, json={"chat_id": USER, "text": "body"}) as response:
            assert (await response.json())["result"]["text"] == "query"


async def test_a_broken_json_body_loses_parameters_and_is_no_error_of_its_own(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {"Content-Type": "application/json"}
        async with session.post(sandbox.url + SEND, data=b'{"text": "a", "chat_id', headers=headers) as response:
            assert (await response.json())["description"] == "Bad Request: chat_id is empty"
    assert json_params(b'{"text": "a\\n", "chat_id": 5, "x": [') == {"text": "a\n", "chat_id": "5"}
    assert json_params(b'{"a": [1, "x"], "b": {"c": null}, "d": true}') == {
        "a": '[1, "x"]',
        "b": '{"c": null}',
        "d": "true",
    }


async def test_any_other_body_is_one_file_called_file(sandbox: Sandbox) -> None:
    path = f"/bot{token(0)}/sendDocument?chat_id={USER}&document=attach://file"
    answer = await raw(sandbox, request(path, b"%PDF-1.7", headers="Content-Type: application/pdf\r\n", close=True))
    assert b'"mime_type":"application/pdf"' in answer


async def test_requests_in_a_pipeline_are_answered_in_order(sandbox: Sandbox) -> None:
    headers = "Content-Type: application/json\r\n"
    bodies = [json.dumps({"chat_id": USER, "text": f"number {n}"}).encode() for n in range(40)]
    data = b"".join(request(SEND, body, headers=headers, close=n == 39) for n, body in enumerate(bodies))
    answer = await raw(sandbox, data)
    places = [answer.index(f'"number {n}"'.encode()) for n in range(40)]
    assert places == sorted(places)


async def test_other_methods_are_not_implemented_and_the_connection_closes(sandbox: Sandbox) -> None:
    answer = await raw(sandbox, request("/", verb="PUT"))
    assert answer.startswith(b"HTTP/1.1 501 Not Implemented\r\n")
    assert b"Content-Length: 0\r\n" in answer


async def test_what_is_no_http_is_a_bad_request(sandbox: Sandbox) -> None:
    assert (await raw(sandbox, b"HELLO\r\n\r\n")).startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_a_client_that_asks_first_is_told_to_continue(sandbox: Sandbox) -> None:
    body = b'{"chat_id": 777, "text": "hi"}'
    headers = "Expect: 100-continue\r\nContent-Type: application/json\r\n"
    answer = await raw(sandbox, request(SEND, body, headers=headers, close=True))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("local", [False, True])
async def test_too_large_a_request_is_refused_in_json_or_on_a_local_server_in_silence(
    sandbox_with: SandboxWith, *, local: bool
) -> None:
    small = await sandbox_with(Config(local=local))
    text = json.dumps({"text": "x" * (1 << 20)}).encode()
    answer = await raw(small, request(SEND, text, headers="Content-Type: application/json\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    refused = {"ok": False, "error_code": 413, "description": "Request Entity Too Large"}
    assert body == b"" if local else json.loads(body) == refused


async def test_a_small_body_that_unpacks_to_too_much_is_refused(sandbox_with: SandboxWith) -> None:
    small = await sandbox_with(Config(upload_limit=1 << 20))
    headers = "Content-Type: application/octet-stream\r\nContent-Encoding: gzip\r\n"
    answer = await raw(small, request(SEND, gzip.compress(bytes(8 << 20)), headers=headers))
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_more_than_fifty_files_are_refused(sandbox: Sandbox) -> None:
    files = {f"f{n}": ("a", b"x") for n in range(51)}
    assert (await call(sandbox, "sendMessage", chat_id=USER, text="x", files=files)).status == 413


async def test_memory_stays_flat_while_large_uploads_stream_through(sandbox: Sandbox) -> None:
    size, process, grown = 40 << 20, psutil.Process(), []
    head = b'--b\r\nContent-Disposition: form-data; name="document"; filename="a.bin"\r\n\r\n'
    end = b"\r\n--b--"
    chunk = bytes(1 << 18)
    host, _, port = sandbox.url.removeprefix("http://").rpartition(":")
    for _ in range(2):
        before = process.memory_info().rss
        reader, writer = await asyncio.open_connection(host, int(port))
        path = f"/bot{token(0)}/sendDocument?chat_id={USER}"
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {len(head) + size + len(end)}\r\n\r\n".encode()
            + head
        )
        for _ in range(size // len(chunk)):
            writer.write(chunk)
            await writer.drain()
            grown.append(process.memory_info().rss - before)
        writer.write(end)
        assert b"200 OK" in await reader.readuntil(b"\r\n")
        writer.close()
        await writer.wait_closed()
    assert sandbox.state.stats.total.upload_bytes == 2 * size
    assert max(grown) < 16 << 20


async def test_bandwidth_bounds_a_connections_upload(sandbox_with: SandboxWith) -> None:
    narrow = await sandbox_with(Config(network=Network(bandwidth=4e6)))
    began = monotonic()
    await call(narrow, "sendDocument", chat_id=USER, files={"document": ("a.bin", bytes(2_000_000))})
    assert 0.3 < monotonic() - began < 5


async def test_latency_comes_before_the_effect(sandbox_with: SandboxWith) -> None:
    far = await sandbox_with(Config(network=Network(latency=0.1)))
    began = monotonic()
    assert (await call(far, "getMe")).status == 200
    assert monotonic() - began >= 0.1


async def started(sandbox: Sandbox, asking: asyncio.Task[Answer]) -> None:
    """Wait until the sandbox works on the request."""
    while (await control(sandbox, "stats"))["active"] == 0:
        assert not asking.done()


async def test_a_request_that_arrived_is_carried_out_though_its_client_left(sandbox_with: SandboxWith) -> None:
    far = await sandbox_with(Config(network=Network(latency=0.5)))
    asking = asyncio.create_task(call(far, "sendMessage", chat_id=USER, text="x"))
    await started(far, asking)
    asking.cancel()
    await asyncio.wait({asking})
    await asyncio.gather(*far._service.tasks)
    assert far.state.stats.chats[USER] == 1


@pytest.mark.server
async def test_a_stopped_sandbox_leaves_nothing_behind() -> None:
    async with Sandbox.running(Config(network=Network(latency=60))) as running:
        asking = asyncio.create_task(call(running, "getMe"))
        await started(running, asking)
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert not running._service.tasks
    assert not running._service.connections
