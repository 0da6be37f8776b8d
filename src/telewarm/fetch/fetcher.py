"""Fetcher of files by URL: follows redirects itself, streams, with limits on everything."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import structlog
from yarl import URL

from telewarm import clock
from telewarm.errors import FetchError, FileTooLarge, UrlFetchFailed, UrlNotAFile, UrlNotAllowed
from telewarm.fetch.download_name import name_of
from telewarm.fetch.resolving import Lookup, SystemResolver, ValidatingResolver, is_unresolved, validating_connector
from telewarm.fetch.urls import IsAllowed, UrlPolicy, check_url, resolve_redirect

log = structlog.get_logger(__name__)

MAX_REDIRECTS: Final = 5  # redirects
REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
IDENTITY_ENCODINGS: Final = frozenset({"", "identity"})  # of Content-Encoding
REQUEST_HEADERS: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": "Telewarm (a bot's media library)",
}
READ_BUFFER_BYTES: Final = 64 << 10  # bytes read ahead
HAS_MAX_HEADERS: Final = "max_headers" in inspect.signature(aiohttp.ClientSession).parameters  # since aiohttp 3.14
HEADER_LIMITS: Final[dict[str, Any]] = {"max_headers": 64} if HAS_MAX_HEADERS else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchTimeouts:
    """Seconds for the connection, the response's head, the next bytes, and limits of the whole."""

    connect: float = 10.0
    response: float = 30.0
    stall: float = 30.0
    grace: float = 60.0
    min_bytes_per_second: float = 100_000.0  # after `grace` seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """A file being fetched.

    `host`: of the URL. `name`: by the server or the path. `chunks` raises FetchError when the file is incomplete or too
    large.
    """

    host: str
    name: str | None
    chunks: AsyncGenerator[bytes, None]


class Fetcher:
    """Fetches without cookies, proxies, passwords, decompression or retries.

    No part of a response appears in an error, and of a URL only the host appears in the log.
    """

    def __init__(
        self, session: aiohttp.ClientSession, *, policy: UrlPolicy, is_allowed: IsAllowed, timeouts: FetchTimeouts
    ) -> None:
        self._session = session
        self._ports = policy.ports
        self._is_allowed = is_allowed
        self._timeouts = timeouts

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        policy: UrlPolicy,
        *,
        lookup: Lookup | None = None,
        is_allowed: IsAllowed | None = None,
        timeouts: FetchTimeouts | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Fetcher]:
        """Open a fetcher. `lookup`, `is_allowed` and `trust` (certificates) replace the defaults."""
        is_allowed = is_allowed or policy.allow
        timeouts = timeouts or FetchTimeouts()
        connector = validating_connector(
            is_allowed,
            resolver=ValidatingResolver(lookup or SystemResolver(), is_allowed),
            use_dns_cache=False,
            force_close=True,  # so that every hop is resolved, checked and connected again
            limit=0,
            ssl=trust or True,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers=REQUEST_HEADERS,
            read_bufsize=READ_BUFFER_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=timeouts.stall),
            **HEADER_LIMITS,
        ) as session:
            yield cls(session, policy=policy, is_allowed=is_allowed, timeouts=timeouts)

    @asynccontextmanager
    async def get(self, url: str, *, max_bytes: int) -> AsyncIterator[Download]:
        """Fetch a file of at most `max_bytes`. Raises FetchError. Leaving the block closes the connection."""
        host = None
        try:
            target = check_url(url, self._ports, self._is_allowed)
            host = target.raw_host
            for _ in range(MAX_REDIRECTS + 1):
                response = await self._follow_redirects(target)
                try:
                    if response.status in REDIRECT_STATUSES:
                        where = response.headers.get("Location", "")
                        target = resolve_redirect(where, target, self._ports, self._is_allowed)
                        continue
                    _check_response(response, max_bytes)
                    name = name_of(response.headers.get("Content-Disposition"), target)
                    async with aclosing(self._chunks(response, max_bytes)) as chunks:
                        yield Download(host=host or "", name=name, chunks=chunks)
                    return
                finally:
                    response.close()
            raise UrlNotAllowed(
                f"the server redirects more than {MAX_REDIRECTS} times: give the URL of the file itself"
            )
        except FetchError as error:
            log.warning("fetch_failed", host=host, code=error.code, error=error.message)
            raise

    async def _follow_redirects(self, target: URL) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(self._timeouts.response):
                return await self._session.get(target, allow_redirects=False)
        except (aiohttp.ClientError, OSError, ValueError) as foreign:
            failure = _unreachable_error(foreign)
        # Raised out here, so that no foreign error, whose text may hold the URL, becomes its context.
        raise failure

    async def _chunks(self, response: aiohttp.ClientResponse, max_bytes: int) -> AsyncGenerator[bytes, None]:
        began, got = clock.monotonic(), 0
        while chunk := await self._next_chunk(response, clock.monotonic() - began, got):
            got += len(chunk)
            if got > max_bytes:
                raise FileTooLarge(largest=max_bytes)
            yield chunk
        if not got:
            raise UrlNotAFile("the server answered with an empty file", status=response.status)

    async def _next_chunk(self, response: aiohttp.ClientResponse, seconds: float, got: int) -> bytes:
        """Return the next chunk, empty at the end. The minimum rate holds however small the chunks are."""
        left = self._timeouts.grace + got / self._timeouts.min_bytes_per_second - seconds
        try:
            async with asyncio.timeout(max(0.0, left)):
                return await response.content.readany()
        except (aiohttp.ClientError, OSError) as foreign:
            failure = _interrupted_error(foreign)
        raise failure


def _check_response(response: aiohttp.ClientResponse, max_bytes: int) -> None:
    """Check status and size before the body is read. Raises UrlNotAFile, FileTooLarge."""
    status = response.status
    if status != HTTPStatus.OK:
        raise UrlNotAFile(
            f"the server answered with HTTP {status} and no file: check that the URL opens in a browser that is not "
            "logged in",
            status=status,
        )
    if response.headers.get("Content-Encoding", "").strip().lower() not in IDENTITY_ENCODINGS:
        raise UrlNotAFile("the server packs the file though it was asked not to: upload the file itself", status=status)
    if response.content_length is not None and response.content_length > max_bytes:
        raise FileTooLarge(largest=max_bytes)


def _unreachable_error(foreign: Exception) -> FetchError:
    return UrlFetchFailed(f"the URL cannot be fetched: {_describe_cause(foreign)}")


def _interrupted_error(foreign: Exception) -> FetchError:
    if isinstance(foreign, TimeoutError):
        return UrlFetchFailed("the server sends the file too slowly, or has stopped: try again, or upload it yourself")
    return UrlFetchFailed("the connection broke before the whole file had come: try again")


def _describe_cause(foreign: Exception) -> str:
    match foreign:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "the server's certificate is not to be trusted, or it speaks no TLS: use a server that does"
        case aiohttp.ClientConnectorError() if is_unresolved(foreign):
            return "its host has no address: check the name"
        case TimeoutError():
            return "the server does not answer in time: try again, and check that it is up"
        case aiohttp.ClientConnectorError():
            return "no connection to the server: check that it is up, and the port"
        case aiohttp.ClientResponseError() | ValueError():
            return "the server's answer is no HTTP as it should be"
        case _:
            return "the server closed the connection without an answer: try again"
