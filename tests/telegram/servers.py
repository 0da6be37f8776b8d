"""Servers that misbehave on purpose: HTTP by hand, so that a test decides what goes on the wire and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

PHOTO = b'[{"file_id":"p","file_unique_id":"u"}]'
OK = b'{"ok":true,"result":{"message_id":5,"chat":{"id":7,"type":"private"},"photo":' + PHOTO + b"}}"


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heads: list[bytes] = field(default_factory=list)

    async def head(self) -> int:
        """Read one request's head; the length of its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        lines = head.lower().split(b"\r\n")
        return next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))

    async def request(self) -> bytes:
        """Read one whole request; its body."""
        return await self.reader.readexactly(await self.head())

    def answer(self, body: bytes = OK, *, status: str = "200 OK", headers: str = "") -> None:
        self.writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)

    def reset(self) -> None:
        self.writer.transport.abort()


Handler: TypeAlias = Callable[[Connection], Awaitable[None]]


@dataclass
class Server:
    root: str
    connections: list[Connection] = field(default_factory=list)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    """Each connection is the handler's until it returns; then it is closed."""
    server = Server(root="")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        server.connections.append(connection)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await handler(connection)
        finally:
            writer.close()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    server.root = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for connection in server.connections:
            connection.reset()
        await listening.wait_closed()


async def polite(connection: Connection) -> None:
    while True:
        await connection.request()
        connection.answer()


async def silent(connection: Connection) -> None:
    """Takes everything and never answers."""
    await connection.reader.read(-1)


async def stuck(connection: Connection) -> None:
    """Takes a request's head and not its body."""
    await connection.head()
    await asyncio.Event().wait()


async def quitting(connection: Connection) -> None:
    """Takes a whole request and closes."""
    await connection.request()


async def resetting(connection: Connection) -> None:
    """Takes a part of the body and resets."""
    await connection.head()
    await connection.reader.readexactly(1000)
    connection.reset()


async def babbling(connection: Connection) -> None:
    await connection.request()
    connection.writer.write(b"what is HTTP?\r\n\r\n")


async def breaking_off(connection: Connection) -> None:
    await connection.request()
    connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + OK)
    await connection.writer.drain()


async def quoting(connection: Connection) -> None:
    """As some proxies do, shows the URL in its error page."""
    await connection.request()
    line = connection.heads[-1].split(b"\r\n")[0]
    connection.answer(b"<html>" + line + b"</html>", status="502 Bad Gateway")


async def quoting_json(connection: Connection) -> None:
    await connection.request()
    path = connection.heads[-1].split(b" ")[1]
    connection.answer(b'{"ok":false,"error_code":404,"description":"Not Found: ' + path + b'"}', status="404 Not Found")


def redirecting(to: str) -> Handler:
    async def handler(connection: Connection) -> None:
        await connection.request()
        path = connection.heads[-1].split(b" ")[1].decode()
        connection.answer(b"", status="307 Temporary Redirect", headers=f"Location: {to}{path}\r\n")

    return handler
