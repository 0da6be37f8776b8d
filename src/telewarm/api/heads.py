"""HTTP protocol with bounds on the size of a request's head and on the time it takes."""

from __future__ import annotations

import asyncio
import json
from typing import cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from telewarm.api.request_limits import HEADER_BYTES
from telewarm.api.sse import ABORT

CODES = {400: "BAD_REQUEST", 408: "TOO_SLOW", 431: "HEADERS_TOO_LARGE"}
HEAD_SECONDS = 10.0  # for a request's head to arrive


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn bounds neither size nor time of a request's head: endless headers would fill the memory.

    A head may be larger than `HEADER_BYTES` by what one read brings (64 to 256 KiB); the guard judges it exactly.
    """

    head_bytes = 0
    head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        in_head = self.head_timer is not None
        super().data_received(data)
        if in_head and self.head_timer is not None and not self.transport.is_closing():
            self.head_bytes += len(data)
            if self.head_bytes > HEADER_BYTES:
                self._refuse(431, f"a request has at most {HEADER_BYTES} bytes of headers")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self.head_timer is None:
            self._begin_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn has logged it, and answers in plain text
        self._refuse(400, "what came is not HTTP/1.1: call with a client that speaks it")

    def _begin_head(self) -> None:
        self.head_bytes = 0
        self.head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _end_head(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _too_slow(self) -> None:
        if self._is_answering():  # look again later
            self.head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)
        elif not self.transport.is_closing():
            self._refuse(408, f"the head of a request has {HEAD_SECONDS:g} s to arrive")

    def _is_answering(self) -> bool:
        """An earlier request of this connection."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _refuse(self, status: int, why: str) -> None:
        """The connection ends with it: what would follow belongs to the same request."""
        self._end_head()
        body = json.dumps({"ok": False, "error": CODES[status], "message": why}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        if not self._is_answering():
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
