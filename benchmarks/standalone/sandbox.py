"""How fast and how flat the sandbox is: sends a second, server CPU a send, memory while 50 MB uploads stream through.

    python benchmarks/standalone/sandbox.py [--seconds 10] [--connections 8] [--uploads 20] [--megabytes 50]
        [--chats 1000000]

The sandbox runs in a process of its own, on a core of its own where the system lets it; bare clients run in this one.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import msgspec
import psutil
import uvloop

from telewarm.sandbox import Config
from telewarm.sandbox.serve import serve

TOKEN = "1000000001:" + "A" * 35
CHANNEL = -1001234567890
MIB = 1 << 20
WRITE = 256 * 1024


def pin(core: int) -> None:
    """Keep this process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def run_server(ready: Connection) -> None:
    pin(0)
    serve(Config(), host="127.0.0.1", port=0, ready=ready.send)


@contextmanager
def sandbox_process() -> Iterator[tuple[str, psutil.Process]]:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=run_server, args=(theirs,), name="sandbox")
    child.start()
    try:
        yield ours.recv(), psutil.Process(child.pid)
    finally:
        child.terminate()
        child.join(10)


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def rss(process: psutil.Process) -> float:
    """Resident memory in MiB."""
    return float(process.memory_info().rss / MIB)


class Client:
    """A bare keep-alive connection: nothing but bytes, so that the server is what is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, url: str) -> Client:
        host, _, port = url.removeprefix("http://").rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def answer(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(body.decode())
        return body

    async def call(self, method: str, body: bytes) -> bytes:
        self.writer.write(head_of(method, "application/json", len(body)) + body)
        return await self.answer()

    def close(self) -> None:
        self.writer.close()


def head_of(method: str, content_type: str, length: int) -> bytes:
    return (
        f"POST /bot{TOKEN}/{method} HTTP/1.1\r\nHost: sandbox\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def jpeg(size: int) -> bytes:
    """The header of a 1280 by 960 JPEG and noise behind it."""
    head = b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", 960, 1280) + b"\x03" + bytes(9) + b"\xff\xda"
    return head + os.urandom(size - len(head))


async def upload(client: Client, method: str, field: str, *, head: bytes, size: int) -> bytes:
    """Stream a file of `size` bytes: `head`, then zeros."""
    start = (
        f'--edge\r\nContent-Disposition: form-data; name="chat_id"\r\n\r\n{CHANNEL}\r\n'
        f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="file.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = b"\r\n--edge--\r\n"
    total = len(start) + size + len(end)
    client.writer.write(head_of(method, "multipart/form-data; boundary=edge", total) + start)
    async for chunk in chunks(head, size):
        client.writer.write(chunk)
        await client.writer.drain()
    client.writer.write(end)
    return await client.answer()


async def chunks(head: bytes, size: int) -> AsyncIterator[bytes]:
    yield head
    zeros = bytes(WRITE)
    left = size - len(head)
    while left > 0:
        yield zeros[:left]
        left -= WRITE


async def warm_photo(url: str) -> str:
    client = await Client.connect(url)
    picture = jpeg(200_000)
    body = msgspec.json.decode(await upload_photo(client, picture))
    client.close()
    return str(body["result"]["photo"][-1]["file_id"])


async def upload_photo(client: Client, picture: bytes) -> bytes:
    start = (
        f'--edge\r\nContent-Disposition: form-data; name="chat_id"\r\n\r\n{CHANNEL}\r\n'
        '--edge\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
    ).encode()
    body = start + picture + b"\r\n--edge--\r\n"
    client.writer.write(head_of("sendPhoto", "multipart/form-data; boundary=edge", len(body)) + body)
    return await client.answer()


async def send_for(url: str, file_id: str, seconds: float, connections: int) -> tuple[int, float]:
    """sendPhoto by file id as fast as the connections go; the count and the seconds it took."""
    deadline = time.monotonic() + seconds

    async def one(chat: int) -> int:
        client = await Client.connect(url)
        body = msgspec.json.encode({"chat_id": chat, "photo": file_id})
        count = 0
        while time.monotonic() < deadline:
            await client.call("sendPhoto", body)
            count += 1
        client.close()
        return count

    started = time.monotonic()
    counts = await asyncio.gather(*(one(chat) for chat in range(1, connections + 1)))
    return sum(counts), time.monotonic() - started


async def send_to_many(url: str, file_id: str, chats: int, connections: int) -> None:
    """One photo to each of `chats` chats."""
    todo = iter(range(1, chats + 1))

    async def one() -> None:
        client = await Client.connect(url)
        for chat in todo:
            await client.call("sendPhoto", msgspec.json.encode({"chat_id": chat, "photo": file_id}))
        client.close()

    await asyncio.gather(*(one() for _ in range(connections)))


async def stream(url: str, process: psutil.Process, *, uploads: int, size: int, parallel: int) -> list[float]:
    """Stream the uploads; the server's memory in MiB, sampled after each of them and while they run."""
    todo = iter(range(uploads))
    samples: list[float] = []

    async def one() -> None:
        client = await Client.connect(url)
        for _ in todo:
            await upload(client, "sendDocument", "document", head=b"%PDF-1.7\n", size=size)
            samples.append(rss(process))
        client.close()

    async def watch() -> None:
        while True:
            samples.append(rss(process))
            await asyncio.sleep(0.02)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(one() for _ in range(parallel)))
    watcher.cancel()
    return samples


async def measure(url: str, process: psutil.Process, options: argparse.Namespace) -> None:
    file_id = await warm_photo(url)
    await send_for(url, file_id, 1, options.connections)
    used = cpu(process)
    count, seconds = await send_for(url, file_id, options.seconds, options.connections)
    used = cpu(process) - used
    print(f"sends            {count / seconds:10,.0f} /s   ({options.connections} connections, {seconds:.1f} s)")
    print(f"server CPU       {used / count * 1000:10.4f} ms a send: at most {count / used:,.0f} /s on one core")
    before = rss(process)
    started, used = time.monotonic(), cpu(process)
    size = options.megabytes * 1_000_000
    samples = await stream(url, process, uploads=options.uploads, size=size, parallel=5)
    seconds, used = time.monotonic() - started, cpu(process) - used
    total = options.uploads * options.megabytes
    print(f"uploads          {total / seconds:10,.0f} MB/s ({options.uploads} x {options.megabytes} MB, 5 at a time)")
    print(f"server CPU       {used / total * 1000:10.2f} ms a MB")
    print(f"memory, MiB      {before:10.1f} before, {max(samples):.1f} most while streaming, {rss(process):.1f} after")
    if options.chats:
        before = rss(process)
        await send_to_many(url, file_id, options.chats, options.connections)
        grown = (rss(process) - before) * MIB / options.chats
        print(f"{options.chats:,} chats: {before:.1f} -> {rss(process):.1f} MiB, {grown:.0f} bytes a message")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--uploads", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--chats", type=int, default=0)
    options = parser.parse_args()
    with sandbox_process() as (url, process):
        pin((os.cpu_count() or 2) - 1)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(url, process, options))


if __name__ == "__main__":
    main()
