"""A little internet on loopback: 127.0.0.2 plays a public machine, 127.0.0.1 a private one on the same port."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from telewarm import clock
from telewarm.fetch import Fetcher, UrlPolicy
from telewarm.fetch.addresses import Address
from telewarm.fetch.fetcher import FetchTimeouts
from tests.fixtures.objects import free_ports

PUBLIC, PRIVATE = ip_address("127.0.0.2"), ip_address("127.0.0.1")
SLOW = "slow.example"  # it is looked up for ever
Handler = Callable[[asyncio.StreamWriter], Awaitable[None]]
QUICK = FetchTimeouts(connect=1, response=0.4, stall=0.4, grace=0.8)


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(kw_only=True, slots=True)
class Web:
    """Each path's answer on the public machine; the requests that it had; the connections to the private one; names
    with their answers, the last of which is repeated."""

    port: int
    answers: dict[str, bytes | Handler] = field(default_factory=dict)
    names: dict[str, list[Sequence[Address]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    intrusions: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    serving: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = field(default_factory=dict)

    def url(self, path: str = "/", host: str = "files.example") -> str:
        return f"http://{host}:{self.port}{path}"

    async def lookup(self, host: str, port: int) -> Sequence[Address]:
        assert port == self.port
        self.looked_up.append(host)
        if host == SLOW:
            await clock.sleep(3600)
        if host not in self.names:
            raise OSError(-2, "Name or service not known")
        found = self.names[host]
        return found.pop(0) if len(found) > 1 else found[0]

    @asynccontextmanager
    async def fetcher(
        self, *, trust: ssl.SSLContext | None = None, patience: FetchTimeouts = QUICK
    ) -> AsyncIterator[Fetcher]:
        """That holds 127.0.0.2 to be public, and nothing else."""
        rules = UrlPolicy(ports=frozenset({self.port}))
        async with Fetcher.open(
            rules, lookup=self.lookup, is_allowed=lambda address: address == PUBLIC, trust=trust, timeouts=patience
        ) as fetcher:
            yield fetcher

    async def fetch(
        self, url: str, *, max_bytes: int = 1 << 20, patience: FetchTimeouts = QUICK
    ) -> tuple[bytes, str | None]:
        """The bytes and the name."""
        async with self.fetcher(patience=patience) as fetcher, fetcher.get(url, max_bytes=max_bytes) as download:
            return b"".join([chunk async for chunk in download.chunks]), download.name

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving[writer] = asyncio.current_task()
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(head)
                what = self.answers[head.split(" ")[1].partition("?")[0]]
                if isinstance(what, bytes):
                    writer.write(what)
                    await writer.drain()
                else:
                    await what(writer)
        finally:
            writer.close()
            self.closed.set()

    async def intrude(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving[writer] = asyncio.current_task()
        self.intrusions += 1
        writer.write(answer(b"a secret of the private network"))
        writer.close()

    async def close(self) -> None:
        for writer, task in self.serving.items():
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
            writer.transport.abort()
        await clock.sleep(0)  # the loop closes them


@asynccontextmanager
async def web(certificate: Path | None = None) -> AsyncIterator[Web]:
    [port] = free_ports(1)
    net = Web(port=port, names={"files.example": [[PUBLIC]], "intranet.example": [[PRIVATE]]})
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    public = await asyncio.start_server(net.serve, str(PUBLIC), port, ssl=context)
    private = await asyncio.start_server(net.intrude, str(PRIVATE), port)
    async with public, private:
        try:
            yield net
        finally:
            await net.close()
