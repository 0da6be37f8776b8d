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
from telewarm.database.transient import as_unavailable_error
from telewarm.errors import DatabaseUnavailable
from telewarm.events.batches import EventSlice

log = structlog.get_logger(__name__)

STALL_SECONDS = 30.0  # seconds that a client may take nothing before it is cut off
FAREWELL_SECONDS = 1.0  # seconds to say the last word
TOKEN_RECHECK_SECONDS = 20.0  # seconds that a token which was good is believed in
RECONNECT_MS = 2000  # milliseconds until a client that was cut off comes back
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy hands on what comes when it comes
FIRST_MESSAGE = b'retry: %d\nid: %d\nevent: position\ndata: {"id":%d,"type":"position"}\n\n'
POSITION_MESSAGE = b'id: %d\nevent: position\ndata: {"id":%d,"type":"position"}\n\n'
KEEPALIVE_COMMENT = b":\n\n"


class SseRegistry:
    """Streams of one server: at most a fixed number, all ended when it stops."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._open_streams = 0
        self._write_tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def stop(self) -> None:
        """End all streams, and refuse new ones."""
        self._stopped = True
        for task in self._write_tasks:
            task.cancel()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Take a slot while the block runs. Raises 503 for none."""
        if self._stopped:
            raise HttpError(503, "STOPPING", "this server stops: connect again", headers={"Retry-After": "1"})
        if self._open_streams >= self._max_streams:
            raise HttpError(
                503,
                "TOO_MANY_LISTENERS",
                f"{self._max_streams} listen here already: close one, ask another process, or raise "
                f"TELEWARM_EVENT_LISTENERS",
                headers={"Retry-After": "10"},
            )
        self._open_streams += 1
        try:
            yield
        finally:
            self._open_streams -= 1

    @contextmanager
    def cancel_on_stop(self, task: asyncio.Task[None]) -> Iterator[None]:
        """Cancel the task when the server stops."""
        self._write_tasks.add(task)
        if self._stopped:
            task.cancel()
        try:
            yield
        finally:
            self._write_tasks.discard(task)


class EventSourceResponse(Response):
    """Response of one stream. `is_token_valid`: whether its token is still valid."""

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncGenerator[EventSlice, None],
        *,
        registry: SseRegistry,
        is_token_valid: Callable[[], Awaitable[bool]],
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(STREAM_HEADERS)
        self._chunks = chunks
        self._registry = registry
        self._is_token_valid = is_token_valid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI calls it
        """Answer until the client leaves, its token is revoked or the server stops."""
        with self._registry.slot():
            async with aclosing(self._chunks) as chunks:
                first = await anext(chunks)  # what it may raise becomes an answer
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                writing = asyncio.create_task(self._write(first.upto, chunks, send), name="event stream")
                leaving = asyncio.create_task(_wait_for_disconnect(receive), name="client of an event stream")
                try:
                    with self._registry.cancel_on_stop(writing):
                        await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
                    if not leaving.done():
                        await self._finish(writing, send)
                finally:
                    writing.cancel()
                    leaving.cancel()
                    await asyncio.wait({writing, leaving})

    async def _write(self, last_event_id: int, chunks: AsyncGenerator[EventSlice, None], send: Send) -> None:
        """Write until the token becomes invalid. Raises TimeoutError when the client has stalled."""
        await _send_chunk(send, FIRST_MESSAGE % (RECONNECT_MS, last_event_id, last_event_id))
        believed = clock.monotonic() + TOKEN_RECHECK_SECONDS
        async for chunk in chunks:
            if clock.monotonic() >= believed:
                if not await self._is_token_valid():
                    log.info("sse_token_ended")
                    return
                believed = clock.monotonic() + TOKEN_RECHECK_SECONDS
            if chunk.encoded:
                await _send_chunk(send, chunk.sse)
            else:
                await _send_chunk(
                    send,
                    POSITION_MESSAGE % (chunk.upto, chunk.upto) if chunk.upto != last_event_id else KEEPALIVE_COMMENT,
                )
            last_event_id = chunk.upto

    async def _finish(self, write_task: asyncio.Task[None], send: Send) -> None:
        """End the response, or leave it unfinished when the client takes nothing: the server closes its connection."""
        error = None if write_task.cancelled() else write_task.exception()
        stalled = isinstance(error, ClientStalled)
        if isinstance(error, Exception) and not stalled:
            if not isinstance(error, DatabaseUnavailable) and as_unavailable_error(error) is None:
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


class ClientStalled(Exception):
    """The client does not read."""


async def _send_chunk(send: Send, body: bytes) -> None:
    try:
        async with asyncio.timeout(STALL_SECONDS):
            await send({"type": "http.response.body", "body": body, "more_body": True})
    except TimeoutError:
        raise ClientStalled from None


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
