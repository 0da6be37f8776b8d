"""HTTP protocol with limits on the size and the time of a request's head."""

from __future__ import annotations

import asyncio
import json
from typing import cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from telewarm.api.request_limits import MAX_HEADER_BYTES
from telewarm.api.sse import ABORT_EXTENSION

CODE_BY_STATUS = {400: "BAD_REQUEST", 408: "TOO_SLOW", 431: "HEADERS_TOO_LARGE"}
HEAD_TIMEOUT_SECONDS = 10.0  # for a request's head to arrive


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn limits neither size nor time of a request's head: endless headers would fill the memory.

    A head may exceed `HEADER_BYTES` by the size of one read (64 to 256 KiB); the middleware checks it exactly.
    """

    head_bytes = 0
    head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer."""
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes, within the limit."""
        in_head = self.head_timer is not None
        super().data_received(data)
        if in_head and self.head_timer is not None and not self.transport.is_closing():
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEADER_BYTES:
                self._reject(431, f"a request has at most {MAX_HEADER_BYTES} bytes of headers")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        if self.head_timer is None:
            self._start_head_timer()

    def on_headers_complete(self) -> None:
        """End the head."""
        self._stop_head_timer()
        super().on_headers_complete()
        self.scope["extensions"] = {ABORT_EXTENSION: {"abort": self.transport.abort}}

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn has logged it, and answers in plain text
        """Reject malformed HTTP."""
        self._reject(400, "what came is not HTTP/1.1: call with a client that speaks it")

    def _start_head_timer(self) -> None:
        self.head_bytes = 0
        self.head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._on_head_timeout)

    def _stop_head_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _on_head_timeout(self) -> None:
        if self._is_responding():  # look again later
            self.head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._on_head_timeout)
        elif not self.transport.is_closing():
            self._reject(408, f"the head of a request has {HEAD_TIMEOUT_SECONDS:g} s to arrive")

    def _is_responding(self) -> bool:
        """Return whether a response to an earlier request is in progress."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _reject(self, status: int, reason: str) -> None:
        """Reject the request and close the connection, whose next bytes belong to the same request."""
        self._stop_head_timer()
        body = json.dumps({"ok": False, "error": CODE_BY_STATUS[status], "message": reason}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        if not self._is_responding():
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
