"""Server-sent events: responses that last until the client leaves, its token is revoked or the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from telewarm import clock
from telewarm.api.error_responses import HttpError
from telewarm.database.transient import as_outage
from telewarm.errors import DatabaseUnavailable
from telewarm.events.batches import EventSlice

log = structlog.get_logger(__name__)

STALL_SECONDS = 30.0  # seconds that a client may take nothing before it is cut off
FAREWELL_SECONDS = 1.0  # seconds to say the last word
TOKEN_RECHECK_SECONDS = 20.0  # seconds that a token which was good is believed in
RETRY_MS = 2000  # milliseconds until a client that was cut off comes back
ABORT = "telewarm.abort"  # an extension of the scope: ends the connection at once, whatever waits to be sent
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy hands on what comes when it comes
BEGINNING = b'retry: %d\nid: %d\nevent: position\ndata: {"id":%d,"type":"position"}\n\n'
POSITION = b'id: %d\nevent: position\ndata: {"id":%d,"type":"position"}\n\n'
ALIVE = b":\n\n"


class SseRegistry:
    """The streams of one server: at most so many at once, and all of them end when it stops."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._writing: set[asyncio.Task[None]] = set()
        self._ended = False

    def end(self) -> None:
        """End them all, and let nobody begin another."""
        self._ended = True
        for task in self._writing:
            task.cancel()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises 503 when there is none."""
        if self._ended:
            raise HttpError(503, "STOPPING", "this server stops: connect again", headers={"Retry-After": "1"})
        if self._taken >= self._most:
            raise HttpError(
                503,
                "TOO_MANY_LISTENERS",
                f"{self._most} listen here already: close one, ask another process, or raise TELEWARM_EVENT_LISTENERS",
                headers={"Retry-After": "10"},
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    @contextmanager
    def ending(self, task: asyncio.Task[None]) -> Iterator[None]:
        """It is cancelled when the server stops."""
        self._writing.add(task)
        if self._ended:
            task.cancel()
        try:
            yield
        finally:
            self._writing.discard(task)


class EventSourceResponse(Response):
    """`admitted`: whether the token that opened it is still good."""

    media_type = "text/event-stream"

    def __init__(
        self, chunks: AsyncGenerator[EventSlice, None], *, streams: SseRegistry, admitted: Callable[[], Awaitable[bool]]
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._chunks = chunks
        self._streams = streams
        self._admitted = admitted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.place():
            async with aclosing(self._chunks) as chunks:
                first = await anext(chunks)  # what it may raise becomes an answer
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                writing = asyncio.create_task(self._write(first.upto, chunks, send), name="event stream")
                leaving = asyncio.create_task(_until_gone(receive), name="client of an event stream")
                try:
                    with self._streams.ending(writing):
                        await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
                    if not leaving.done():
                        await self._end(writing, leaving, scope, send)
                finally:
                    writing.cancel()
                    leaving.cancel()
                    await asyncio.wait({writing, leaving})

    async def _write(self, seen: int, chunks: AsyncGenerator[EventSlice, None], send: Send) -> None:
        """Until the token is good no more. Raises TimeoutError when the client takes nothing."""
        await _put(send, BEGINNING % (RETRY_MS, seen, seen))
        believed = clock.monotonic() + TOKEN_RECHECK_SECONDS
        async for chunk in chunks:
            if clock.monotonic() >= believed:
                if not await self._admitted():
                    log.info("sse_token_ended")
                    return
                believed = clock.monotonic() + TOKEN_RECHECK_SECONDS
            if chunk.told:
                await _put(send, chunk.sse)
            else:
                await _put(send, POSITION % (chunk.upto, chunk.upto) if chunk.upto != seen else ALIVE)
            seen = chunk.upto

    async def _end(self, writing: asyncio.Task[None], leaving: asyncio.Task[None], scope: Scope, send: Send) -> None:
        error = None if writing.cancelled() else writing.exception()
        stalled = isinstance(error, ClientStalled)
        if isinstance(error, Exception) and not stalled:
            if not isinstance(error, DatabaseUnavailable) and as_outage(error) is None:
                raise error
            log.warning("events_read_failed", error=type(error).__name__)
        if not stalled:
            try:
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            except TimeoutError:
                stalled = True
        if stalled:
            log.info("sse_client_stalled", seconds=STALL_SECONDS)
            scope.get("extensions", {}).get(ABORT, {}).get("abort", lambda: None)()
            await asyncio.wait({leaving}, timeout=FAREWELL_SECONDS)


class ClientStalled(Exception):
    """The client takes nothing."""


async def _put(send: Send, body: bytes) -> None:
    try:
        async with asyncio.timeout(STALL_SECONDS):
            await send({"type": "http.response.body", "body": body, "more_body": True})
    except TimeoutError:
        raise ClientStalled from None


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
