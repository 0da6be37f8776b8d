"""Request ids, and a log line for each request when it is over."""

from __future__ import annotations

import re
from secrets import token_hex

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from telewarm import clock
from telewarm.api.permissions import route_path, route_template
from telewarm.logs import redact

log = structlog.get_logger(__name__)

REQUEST_ID_HEADER = b"x-request-id"
REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._=+/@~-]{1,128}")
PROBE_PATHS = frozenset(
    {"/healthz", "/readyz", "/health", "/metrics"}
)  # asked all day long: their lines are for debugging
CLIENT_CLOSED_REQUEST = 499  # noted when the caller was gone before the answer began
MAX_PATH_CHARACTERS = 200  # characters


class RequestIdMiddleware:
    """Outermost middleware. The id is the caller's (`X-Request-Id`) or a new one.

    It is returned in the same header, and added to every log line of the request, also by tasks that it starts.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stats = RequestStats(receive, send, request_id_of(scope))
        scope.setdefault("state", {})["request_id"] = stats.request_id
        with bound_contextvars(request_id=stats.request_id):
            try:
                await self._app(scope, stats.receive, stats.send)
            finally:
                stats.log_request(scope)


class RequestStats:
    """Byte counts of one request."""

    __slots__ = ("_bytes_in", "_bytes_out", "_receive", "_send", "_started_at", "_status", "request_id")

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self.request_id = request_id
        self._receive = receive
        self._send = send
        self._started_at = clock.monotonic()
        self._bytes_in = self._bytes_out = 0
        self._status = CLIENT_CLOSED_REQUEST

    async def receive(self) -> Message:
        """Receive and count."""
        message = await self._receive()
        self._bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Send and count."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, self.request_id.encode())]
        else:
            self._bytes_out += len(message.get("body", b""))
        await self._send(message)

    def log_request(self, scope: Scope) -> None:
        """Log a request. The path is logged only if no route matches; else the route's template."""
        path, route, caller = route_path(scope), scope.get("route"), scope["state"].get("caller")
        line = {
            "method": scope["method"],
            "route": route_template(path, route),
            "status": self._status,
            "ms": round(1000 * (clock.monotonic() - self._started_at), 1),
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "actor": caller and caller.name,
        }
        if route is None:
            line["path"] = _raw_path(scope)
        if path in PROBE_PATHS:
            log.debug("http_request", **line)
        else:
            log.info("http_request", **line)


def request_id_of(scope: Scope) -> str:
    """Return the caller's id, if it is one word of at most 128 plain characters and does not look like a secret."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER and REQUEST_ID_PATTERN.fullmatch(value):
            text = str(value, "ascii")
            if redact(text) == text:
                return text
    return token_hex(8)


def _raw_path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return redact(raw.decode("ascii", "backslashreplace"))[:MAX_PATH_CHARACTERS]
