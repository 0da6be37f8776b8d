"""Limits of unauthenticated callers: failed tokens, headers, time, depth of JSON."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import structlog
from starlette.requests import Request
from starlette.types import Message, Receive

from telewarm import clock
from telewarm.api.error_responses import HttpError

log = structlog.get_logger(__name__)

MAX_FAILED_ATTEMPTS = 10  # wrong tokens from one address in `FAILED_ATTEMPT_WINDOW_SECONDS`
FAILED_ATTEMPT_WINDOW_SECONDS = 60.0  # seconds
MAX_ADDRESSES = 10_000  # remembered at once; the oldest are forgotten
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024  # the request line included
BODY_TIMEOUT_SECONDS = 60.0  # for a small body to arrive
MAX_JSON_DEPTH = 32  # of JSON
MAX_NAME_CHARACTERS = 60  # characters of a name
HEADER_OVERHEAD_BYTES = 4  # bytes: colon, blank, line end

JSON_STRING_PATTERN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
NON_BRACKET_BYTES = bytes(set(range(256)) - set(b"[]{}"))
DEPTH_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: one down, one up


@dataclass(slots=True)
class FixedWindow:
    """A counter with its window."""

    failed_attempts: int
    ends_at: float  # monotonic


class FailedAuthLimiter:
    """Failed tokens by address, in this process alone. IPv6: by /64, the usual range of one caller."""

    def __init__(self, subject: str = "tokens") -> None:
        self._subject = subject
        self._windows: OrderedDict[str, FixedWindow] = OrderedDict()  # by when they began

    def check(self, address: str, now: float) -> None:
        """Raise 429 while the address has had too many failures, before a token is checked."""
        window = self._windows.get(client_network(address)) if self._windows else None
        if window is not None and window.failed_attempts >= MAX_FAILED_ATTEMPTS and now < window.ends_at:
            wait = max(1, round(window.ends_at - now + 0.5))
            raise HttpError(
                429,
                "TOO_MANY_ATTEMPTS",
                f"too many wrong {self._subject} came from your address: try again in {wait} s, with the right one",
                headers={"Retry-After": str(wait)},
            )

    def record_failure(self, address: str, now: float) -> bool:
        """Count a failure. Returns whether it was the last allowed one."""
        key = client_network(address)
        window = self._windows.get(key)
        if window is None or now >= window.ends_at:
            self._windows.pop(key, None)
            window = self._windows[key] = FixedWindow(0, now + FAILED_ATTEMPT_WINDOW_SECONDS)
            if len(self._windows) > MAX_ADDRESSES:
                self._windows.popitem(last=False)
        window.failed_attempts += 1
        closed = window.failed_attempts == MAX_FAILED_ATTEMPTS
        log.warning(
            "failed_auth_limited",
            what=self._subject,
            address=address,
            wrong=window.failed_attempts,
            closed_for_s=FAILED_ATTEMPT_WINDOW_SECONDS if closed else 0,
        )
        return closed


def client_network(address: str) -> str:
    """Return the network that counts as one caller; an address in an unknown form is its own."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))


def check_headers(headers: Iterable[tuple[bytes, bytes]], *, request_line_bytes: int) -> None:
    """Raise 431 for too large headers. `request_line_bytes`: of path and query."""
    sizes = [len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in headers]
    if len(sizes) > MAX_HEADERS or request_line_bytes + sum(sizes) > MAX_HEADER_BYTES:
        raise HttpError(
            431,
            "HEADERS_TOO_LARGE",
            f"a request has at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes of them and its address: "
            f"send fewer",
        )


def exceeds_json_depth(body: bytes) -> bool:
    """Return whether JSON is nested deeper than `MAX_JSON_DEPTH`; undefined for malformed JSON."""
    if b"\0" in body:  # UTF-16 or UTF-32, which the parser would read too
        try:
            body = body.decode(json.detect_encoding(body)).encode()
        except UnicodeError:
            return False
    if body.count(b"[") + body.count(b"{") <= MAX_JSON_DEPTH:
        return False
    steps = JSON_STRING_PATTERN.sub(b"", body).translate(DEPTH_STEPS, delete=NON_BRACKET_BYTES)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_JSON_DEPTH


class UniqueKeysRequest(Request):
    """Request that refuses duplicate keys in JSON: one of two values would be ignored silently."""

    async def json(self) -> Any:  # noqa: ANN401 - whatever came
        """Parse the body. Raises 422."""
        if not hasattr(self, "_json"):
            self._json = json.loads(await self.body(), object_pairs_hook=_reject_duplicate_keys)
        return self._json


def _reject_duplicate_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise HttpError(422, "BAD_REQUEST", f"{name[:MAX_NAME_CHARACTERS]}: it is there more than once: give it once")
    return found


async def read_limited_body(request: Request, max_bytes: int, on_bytes: Callable[[int], None]) -> Request:
    """Read the whole body: at most `max_bytes`, in time, not too deep. Raises 413, 408, 400.

    `on_bytes`: called with the number of bytes, may raise.
    """
    whole = UniqueKeysRequest(request.scope, limit_body_time(limit_body_bytes(request.receive, max_bytes, on_bytes)))
    if exceeds_json_depth(await whole.body()):
        raise HttpError(
            400, "BAD_REQUEST", f"the body is nested deeper than {MAX_JSON_DEPTH} levels: no request needs that"
        )
    return whole


def limit_body_bytes(receive: Receive, max_bytes: int, on_bytes: Callable[[int], None]) -> Receive:
    """Raise 413 as soon as more bytes have come."""
    seen = 0

    async def bounded() -> Message:
        """Receive and check."""
        nonlocal seen
        message = await receive()
        more = len(message.get("body", b""))
        on_bytes(more)
        seen += more
        if seen > max_bytes:
            raise HttpError(413, "TOO_LARGE", f"the body has at most {max_bytes} bytes here")
        return message

    return bounded


def limit_body_time(receive: Receive, *, seconds: float = BODY_TIMEOUT_SECONDS) -> Receive:
    """Limit the time of the first message, the whole of a small body; raises 408. Later messages are not limited."""
    until = clock.monotonic() + seconds
    ended = False

    async def timed() -> Message:
        """Receive with a timeout."""
        nonlocal ended
        if ended:
            return await receive()
        try:
            async with asyncio.timeout(until - clock.monotonic()):
                message = await receive()
        except TimeoutError:
            raise HttpError(408, "TOO_SLOW", f"the body did not arrive within {seconds:g} s; send it again") from None
        ended = not message.get("more_body", False)
        return message

    return timed
