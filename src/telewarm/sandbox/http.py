"""HTTP/1.1 as an asyncio protocol: lean, streaming, one request at a time on each connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote

import httptools

from telewarm.sandbox.body import Body, NoBody, body_for, form_params
from telewarm.sandbox.clock import monotonic
from telewarm.sandbox.errors import ApiError, ConnectionFault
from telewarm.sandbox.multipart import Malformed
from telewarm.sandbox.uploads import Form, Upload, too_large

MAX_HEADERS = 1 << 18
MAX_PIPELINE = 16  # requests waiting on one connection before it is no longer read
SMALLEST_PAUSE = 0.005  # seconds; shorter throttling pauses are saved up
LINGER = 64 << 20  # bytes of a refused body that are read and dropped, so that the client sees the answer

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Request Entity Too Large",
    421: "Misdirected Request",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(slots=True)
class Request:
    """A complete request; its files were streamed."""

    verb: str
    path: str
    params: dict[str, str]
    files: dict[str, Upload] = field(default_factory=dict)
    raw: bytes = b""  # a JSON body as it came
    refused: ApiError | None = None  # the body could not be taken


@dataclass(frozen=True, slots=True)
class Reply:
    """A response."""

    status: int
    body: bytes
    content_type: str = "application/json"
    retry_after: int | None = None
    close: bool = False


Handler = Callable[[Request], Awaitable[Reply]]


@dataclass(slots=True)
class Service:
    """What all connections of a server share."""

    handle: Handler
    break_at: Callable[[str], int | None]  # path -> after how many bytes of body to break the connection
    body_limit: Callable[[], int]
    keep_file: Callable[[], int]
    bandwidth: Callable[[], float | None]
    connections: set[Connection] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class RequestBuilder:
    """Builds one request of what the parser reports. A refused one is built too, with the reason."""

    def __init__(self, service: Service) -> None:
        self.break_at: int | None = None  # bytes of the body after which the connection is to break
        self.received = 0
        self.refused: ApiError | None = None
        self._service = service
        self._url = b""
        self._path = ""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._body: Body = NoBody()
        self._form = Form({}, keep=0)
        self._limit = 0

    def add_url(self, url: bytes) -> None:
        """Receive a part of the URL."""
        self._url += url

    def add_header(self, name: bytes, value: bytes) -> None:
        """Receive a header."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADERS:
            self.refused = ApiError(431, "Request Header Fields Too Large")
            return
        self._headers.setdefault(name.lower(), value)

    def begin_body(self) -> None:
        """Choose the receiver of the body."""
        path, _, query = self._url.partition(b"?")
        self._path = unquote(path.decode("latin-1"))
        self.break_at = self._service.break_at(self._path)
        self._form = Form(form_params(query) if query else {}, keep=self._service.keep_file())
        self._limit = self._service.body_limit()
        if int(self._headers.get(b"content-length", b"0")) > self._limit:
            self.refused = self.refused or too_large()
        try:
            self._body = body_for(self._headers, self._form, limit=self._limit)
        except Malformed:
            self.refused = self.refused or ApiError(400, "")

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for leave to send the body."""
        return self.refused is None and self._headers.get(b"expect", b"").lower() == b"100-continue"

    @property
    def breaks(self) -> bool:
        """Whether the connection is to break now."""
        return self.break_at is not None and self.received >= self.break_at

    @property
    def is_endless(self) -> bool:
        """Whether more of a refused body came than is read for the sake of the response."""
        return self.refused is not None and self.received > self._limit + LINGER

    def add_body(self, data: bytes) -> None:
        """Receive a part of the body."""
        self.received += len(data)
        if self.received > self._limit:
            self.refused = self.refused or too_large()
        if self.refused is not None or self.breaks:
            return
        try:
            self._body.feed(data)
        except ApiError as error:
            self.refused = error
        except Malformed:
            self.refused = ApiError(400, "")

    def build(self, verb: str) -> Request:
        """Return the request, once all of it is here."""
        files: dict[str, Upload] = {}
        try:
            if self.refused is None:
                self._body.finish()
                files = self._form.finish()
        except ApiError as error:
            self.refused = error
        except Malformed:
            self.refused = ApiError(400, "")
        self._body = NoBody()
        return Request(verb, self._path, self._form.params, files, self._form.raw, self.refused)


class Connection(asyncio.Protocol):
    """Parses requests, calls the handler, responds. A received request is executed even if its client leaves."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._busy = False
        self._throttled_until = 0.0
        self._pauses = 0
        self._request = RequestBuilder(service)

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with a transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self._service.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (the reason does not matter here)
        """End."""
        self._service.connections.discard(self)
        self._transport = None
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Parse a piece."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.close()
        except httptools.HttpParserError:
            self._write(Reply(400, b"", close=True), keep_alive=False)
        self._throttle(len(data))

    # -- the parser's side

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._request = RequestBuilder(self._service)

    def on_url(self, url: bytes) -> None:
        """Receive a part of the URL."""
        self._request.add_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header."""
        self._request.add_header(name, value)

    def on_headers_complete(self) -> None:
        """End the headers."""
        self._request.begin_body()
        if self._request.expects_continue:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Receive a part of the body."""
        self._request.add_body(data)
        if self._request.breaks:
            self.reset()
        elif self._request.is_endless:
            self.close()

    def on_message_complete(self) -> None:
        """Queue the request."""
        if self._request.break_at is not None:
            self.reset()
            return
        request = self._request.build(self._parser.get_method().decode())
        self._waiting.append((request, self._parser.should_keep_alive()))
        if len(self._waiting) > MAX_PIPELINE:
            self._pause()
        self._next()

    # -- answering

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        if len(self._waiting) > MAX_PIPELINE:
            self._resume()
        request, keep_alive = self._waiting.popleft()
        self._busy = True
        task = self._loop.create_task(self._answer(request, keep_alive=keep_alive))
        self._service.tasks.add(task)
        task.add_done_callback(self._service.tasks.discard)

    async def _answer(self, request: Request, *, keep_alive: bool) -> None:
        try:
            reply = await self._service.handle(request)
        except ConnectionFault:
            self.reset()
            return
        self._write(reply, keep_alive=keep_alive and not reply.close)
        self._busy = False
        self._next()

    def _write(self, reply: Reply, *, keep_alive: bool) -> None:
        extra = "" if reply.retry_after is None else f"Retry-After: {reply.retry_after}\r\n"
        head = (
            f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Error')}\r\n"
            f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n"
            f"Content-Type: {reply.content_type}\r\n{extra}Content-Length: {len(reply.body)}\r\n\r\n"
        )
        self._send(head.encode() + reply.body)
        if not keep_alive:
            self.close()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Reset the connection, as the client sees it."""
        if self._transport is None:
            return
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # -- bandwidth and back pressure

    def _throttle(self, size: int) -> None:
        bandwidth = self._service.bandwidth()
        if bandwidth is None:
            return
        now = monotonic()
        self._throttled_until = max(self._throttled_until, now) + size / bandwidth
        pause = self._throttled_until - now
        if pause > SMALLEST_PAUSE:
            self._pause()
            self._loop.call_later(pause, self._resume)

    def _pause(self) -> None:
        self._pauses += 1
        if self._pauses == 1 and self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._pauses -= 1
        if self._pauses == 0 and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
