"""Limits of a caller who is not authenticated yet: failed tokens, headers, time, depth of JSON."""

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

WRONG = 10  # wrong tokens from one address in `WINDOW`
WINDOW = 60.0  # seconds
MAX_ADDRESSES = 10_000  # remembered at once; the oldest are forgotten
HEADERS = 100
HEADER_BYTES = 32 * 1024  # the request line included
BODY_SECONDS = 60.0  # for a small body to arrive
DEPTH = 32  # of JSON
SHOWN = 60  # characters of a name
PER_HEADER = 4  # bytes: colon, blank, line end

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: one down, one up


@dataclass(slots=True)
class FixedWindow:
    wrong: int
    until: float  # monotonic


class FailedAuthLimiter:
    """Wrong tokens by address, in this process alone. IPv6: by /64, which is what one caller has."""

    def __init__(self, what: str = "tokens") -> None:
        self._what = what
        self._windows: OrderedDict[str, FixedWindow] = OrderedDict()  # by when they began

    def check(self, address: str, now: float) -> None:
        """Before a token is looked at: raises 429 while the address has had too many wrong ones."""
        window = self._windows.get(network(address)) if self._windows else None
        if window is not None and window.wrong >= WRONG and now < window.until:
            wait = max(1, round(window.until - now + 0.5))
            raise HttpError(
                429,
                "TOO_MANY_ATTEMPTS",
                f"too many wrong {self._what} came from your address: try again in {wait} s, with the right one",
                headers={"Retry-After": str(wait)},
            )

    def wrong(self, address: str, now: float) -> bool:
        """Count one; whether it was the last that was let through."""
        key = network(address)
        window = self._windows.get(key)
        if window is None or now >= window.until:
            self._windows.pop(key, None)
            window = self._windows[key] = FixedWindow(0, now + WINDOW)
            if len(self._windows) > MAX_ADDRESSES:
                self._windows.popitem(last=False)
        window.wrong += 1
        closed = window.wrong == WRONG
        log.warning(
            "failed_auth_limited",
            what=self._what,
            address=address,
            wrong=window.wrong,
            closed_for_s=WINDOW if closed else 0,
        )
        return closed


def network(address: str) -> str:
    """What counts as one caller; an address of no known form is one by itself."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))


def check_headers(headers: Iterable[tuple[bytes, bytes]], *, line: int) -> None:
    """Raises 431. `line`: bytes of the path and the query."""
    sizes = [len(name) + len(value) + PER_HEADER for name, value in headers]
    if len(sizes) > HEADERS or line + sum(sizes) > HEADER_BYTES:
        raise HttpError(
            431,
            "HEADERS_TOO_LARGE",
            f"a request has at most {HEADERS} headers and {HEADER_BYTES} bytes of them and its address: send fewer",
        )


def exceeds_json_depth(body: bytes) -> bool:
    """Whether JSON is nested deeper than `DEPTH`. What is no JSON at all may get either answer."""
    if b"\0" in body:  # UTF-16 or UTF-32, which the parser would read too
        try:
            body = body.decode(json.detect_encoding(body)).encode()
        except UnicodeError:
            return False
    if body.count(b"[") + body.count(b"{") <= DEPTH:
        return False
    steps = STRING.sub(b"", body).translate(STEPS, delete=NO_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > DEPTH


class ExactRequest(Request):
    """A request whose JSON names each field of an object once: of two values, one would be passed over in silence."""

    async def json(self) -> Any:  # noqa: ANN401 - whatever came
        """Raises 422."""
        if not hasattr(self, "_json"):
            self._json = json.loads(await self.body(), object_pairs_hook=_each_once)
        return self._json


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise HttpError(422, "BAD_REQUEST", f"{name[:SHOWN]}: it is there more than once: give it once")
    return found


async def small(request: Request, most: int, taken: Callable[[int], None]) -> Request:
    """The request with its whole body read: at most `most` bytes, in time, not too deep. Raises 413, 408, 400.

    `taken`: told of the bytes that come, may raise.
    """
    whole = ExactRequest(request.scope, in_time(at_most(request.receive, most, taken)))
    if exceeds_json_depth(await whole.body()):
        raise HttpError(400, "BAD_REQUEST", f"the body is nested deeper than {DEPTH} levels: no request needs that")
    return whole


def at_most(receive: Receive, most: int, taken: Callable[[int], None]) -> Receive:
    """Raises 413 as soon as more bytes than that have come."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        more = len(message.get("body", b""))
        taken(more)
        seen += more
        if seen > most:
            raise HttpError(413, "TOO_LARGE", f"the body has at most {most} bytes here")
        return message

    return bounded


def in_time(receive: Receive, *, seconds: float = BODY_SECONDS) -> Receive:
    """The whole body, when it is a small one, has so long to arrive; raises 408. Later messages may take their time."""
    until = clock.monotonic() + seconds
    ended = False

    async def timed() -> Message:
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
