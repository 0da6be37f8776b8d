"""`python -m telewarm_benchmarks.client`: a bare HTTP client in a process of its own, which asks a server for one thing
again and again: as often as it is answered (closed loop), or at a rate whatever the answers are (open loop).

It reads a Job as JSON from standard input and writes its Answers as JSON to standard output.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from typing import Literal, TypeAlias, cast

import httptools
import msgspec
import uvloop

from telewarm import clock
from telewarm.demo.media import photo
from telewarm.errors import TelewarmError

TOKEN = "of-benchmarks-on-loopback-b6f1c07e"  # the API token of every server that is measured  # noqa: S105
BOUNDARY = b"telewarm-bench"
MARK = 64  # where in a photo the number stands that makes it one of a kind: inside its first comment
TICK = 0.001  # seconds between looks whether the next request is due
LAST = 30.0  # seconds for the answers to what was asked last
NEVER = 0  # the status of what was never answered: the connection broke

What: TypeAlias = Literal["send", "raw", "form"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """`total` requests over `connections`, each as soon as the one before it is answered; or, with a `rate`, so many a
    second for `seconds`, over as many connections as that takes and at most `connections`.

    `first`: the number of the first request; no two photos or chats of other numbers are alike.
    """

    host: str
    port: int
    path: str
    what: What
    connections: int
    first: int
    total: int = 0
    rate: float = 0.0
    seconds: float = 0.0
    bytes: int = 0  # of a photo
    media_id: int = 0  # of a send
    chat_id: int = 0  # of the first send


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """`at`: seconds from the start until it was due; `ms`: from then to the whole answer."""

    at: float
    ms: float
    status: int
    retry_after: bool


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """`unasked`: due when all connections were taken. `seconds`: from the first request to the last answer."""

    answers: list[Answer]
    unasked: int
    seconds: float

    def of(self, *statuses: int) -> list[Answer]:
        return [answer for answer in self.answers if answer.status in statuses]


async def run(job: Job) -> Answers:
    """In a process of its own. Its answers are many megabytes: they go through a file."""
    with tempfile.TemporaryFile() as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=sink, start_new_session=True
        )
        try:
            await process.communicate(msgspec.json.encode(job))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise TelewarmError("the client of the benchmark failed: the figure is void")
        sink.seek(0)
        return msgspec.json.decode(sink.read(), type=Answers)


class Connection(asyncio.Protocol):
    """One request at a time. It opens itself when it is needed."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self.status = NEVER
        self.retry_after = False

    async def ask(self, parts: Sequence[bytes]) -> None:
        """`status` tells how it went."""
        self.status, self.retry_after = NEVER, False
        loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answered = loop.create_future()
        try:
            if self._transport is None:
                await loop.create_connection(lambda: self, *self._where)
            if self._transport is not None:
                self._transport.writelines(parts)
                await self._answered
        except OSError:
            self.status = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is not None:
            self._parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._end()

    def on_header(self, name: bytes, _: bytes) -> None:
        self.retry_after = self.retry_after or name.lower() == b"retry-after"

    def on_message_complete(self) -> None:
        assert self._parser is not None  # noqa: S101 - it calls
        self.status = self._parser.get_status_code()
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
            self._transport = None
        self._parser = None
        self._end()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _end(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)


class Load:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._make = _maker(job)
        self._numbers = count(job.first)
        self._answers: list[Answer] = []
        self._unasked = 0
        self._began = 0.0

    async def run(self) -> Answers:
        self._began = clock.monotonic()
        await (self._open_loop() if self._job.rate else self._closed_loop())
        return Answers(answers=self._answers, unasked=self._unasked, seconds=clock.monotonic() - self._began)

    async def _closed_loop(self) -> None:
        left = iter(range(self._job.total))

        async def one() -> None:
            connection = self._connection()
            for _ in left:
                await self._ask(connection, clock.monotonic())
            connection.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(self._job.connections):
                group.create_task(one())

    async def _open_loop(self) -> None:
        idle: list[Connection] = []
        asking: set[asyncio.Task[None]] = set()
        made, asked, due = 0, 0, int(self._job.rate * self._job.seconds)

        async def one(connection: Connection, at: float) -> None:
            await self._ask(connection, at)
            idle.append(connection)

        while asked < due:
            until = (clock.monotonic() - self._began) * self._job.rate
            while asked < min(until, due):
                at = self._began + asked / self._job.rate
                asked += 1
                if not idle and made == self._job.connections:
                    self._unasked += 1
                    continue
                if not idle:
                    idle.append(self._connection())
                    made += 1
                task = asyncio.create_task(one(idle.pop(), at))
                asking.add(task)
                task.add_done_callback(asking.discard)
            await clock.sleep(TICK)
        if asking:
            _, late = await asyncio.wait(asking, timeout=LAST)
            self._unasked += len(late)
        for connection in idle:
            connection.close()

    def _connection(self) -> Connection:
        return Connection(self._job.host, self._job.port)

    async def _ask(self, connection: Connection, at: float) -> None:
        await connection.ask(self._make(next(self._numbers)))
        ms = round(1000 * (clock.monotonic() - at), 3)
        self._answers.append(Answer(round(at - self._began, 4), ms, connection.status, connection.retry_after))


def _maker(job: Job) -> Callable[[int], Sequence[bytes]]:
    """From a number to the bytes of a request."""
    if job.what == "send":
        return lambda number: _send(job, number)
    before, after, kind = b"", b"", b"application/octet-stream"
    if job.what == "form":
        disposition = b'Content-Disposition: form-data; name="file"; filename="photo.jpg"'
        before = b"--%b\r\n%b\r\nContent-Type: image/jpeg\r\n\r\n" % (BOUNDARY, disposition)
        after, kind = b"\r\n--%b--\r\n" % BOUNDARY, b"multipart/form-data; boundary=" + BOUNDARY
    picture = photo(job.first, bytes=job.bytes)
    head = _head(job, kind, len(before) + len(picture) + len(after))
    start, rest = head + before + picture[:MARK], picture[MARK + 8 :] + after
    return lambda number: (start, number.to_bytes(8), rest)


def _send(job: Job, number: int) -> Sequence[bytes]:
    body = b'{"chat_id":%d,"media":[%d]}' % (job.chat_id + number, job.media_id)
    return (_head(job, b"application/json", len(body)) + body,)


def _head(job: Job, kind: bytes, length: int) -> bytes:
    lines = f"POST {job.path} HTTP/1.1\r\nHost: {job.host}:{job.port}\r\nContent-Length: {length}\r\n"
    lines += f"Authorization: Bearer {TOKEN}\r\nContent-Type: "
    return lines.encode() + kind + b"\r\n\r\n"


def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    answers = uvloop.run(Load(job).run())
    sys.stdout.buffer.write(msgspec.json.encode(answers))


if __name__ == "__main__":
    main()
