"""Fetcher of files by URL: redirects followed one by one, streamed, bounded in every way."""

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
from telewarm.fetch.resolving import Lookup, SystemResolver, ValidatingResolver, gated, is_unresolved
from telewarm.fetch.urls import Allowed, UrlPolicy, checked, resolve_redirect

log = structlog.get_logger(__name__)

MAX_REDIRECTS: Final = 5  # redirects
REDIRECTED: Final = frozenset({301, 302, 303, 307, 308})
UNPACKED: Final = frozenset({"", "identity"})  # of Content-Encoding
HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "Telewarm (a bot's media library)"}
BUFFER: Final = 64 << 10  # bytes read ahead
HAS_BOUND: Final = "max_headers" in inspect.signature(aiohttp.ClientSession).parameters  # since aiohttp 3.14
BOUNDS: Final[dict[str, Any]] = {"max_headers": 64} if HAS_BOUND else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchTimeouts:
    """Seconds: for a connection, for the head of an answer, for the next bytes; and what the whole may take."""

    connect: float = 10.0
    answer: float = 30.0
    stall: float = 30.0
    grace: float = 60.0
    slowest: float = 100_000.0  # bytes a second, once `grace` is over


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """`host`: that was asked. `name`: as the server or the path has it. `chunks` raises FetchError when the file is not
    whole or too large."""

    host: str
    name: str | None
    chunks: AsyncGenerator[bytes, None]


class Fetcher:
    """Without cookies, proxies, passwords, decompression or a second try. Nothing of an answer is ever repeated in an
    error, and of a URL nothing but its host is written to the log."""

    def __init__(
        self, session: aiohttp.ClientSession, *, rules: UrlPolicy, allowed: Allowed, patience: FetchTimeouts
    ) -> None:
        self._session = session
        self._ports = rules.ports
        self._allowed = allowed
        self._patience = patience

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        rules: UrlPolicy,
        *,
        lookup: Lookup | None = None,
        allowed: Allowed | None = None,
        patience: FetchTimeouts | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Fetcher]:
        """`lookup`, `allowed` and `trust` (of certificates) stand in for the system's and the rules' own."""
        allowed = allowed or rules.allow
        patience = patience or FetchTimeouts()
        connector = gated(
            allowed,
            resolver=ValidatingResolver(lookup or SystemResolver(), allowed),
            use_dns_cache=False,
            force_close=True,  # so that every hop is resolved, judged and connected anew
            limit=0,
            ssl=trust or True,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers=HEADERS,
            read_bufsize=BUFFER,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=patience.connect, sock_read=patience.stall),
            **BOUNDS,
        ) as session:
            yield cls(session, rules=rules, allowed=allowed, patience=patience)

    @asynccontextmanager
    async def get(self, url: str, *, largest: int) -> AsyncIterator[Download]:
        """A file of at most `largest` bytes. Raises FetchError. Leaving closes the connection."""
        host = None
        try:
            target = checked(url, self._ports, self._allowed)
            host = target.raw_host
            for _ in range(MAX_REDIRECTS + 1):
                response = await self._answer(target)
                try:
                    if response.status in REDIRECTED:
                        where = response.headers.get("Location", "")
                        target = resolve_redirect(where, target, self._ports, self._allowed)
                        continue
                    _check(response, largest)
                    name = name_of(response.headers.get("Content-Disposition"), target)
                    async with aclosing(self._chunks(response, largest)) as chunks:
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

    async def _answer(self, target: URL) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(self._patience.answer):
                return await self._session.get(target, allow_redirects=False)
        except (aiohttp.ClientError, OSError, ValueError) as foreign:
            failure = _unreachable(foreign)
        # Raised out here, so that no foreign error, whose text may hold the URL, hangs on ours as its context.
        raise failure

    async def _chunks(self, response: aiohttp.ClientResponse, largest: int) -> AsyncGenerator[bytes, None]:
        began, got = clock.monotonic(), 0
        while chunk := await self._next(response, clock.monotonic() - began, got):
            got += len(chunk)
            if got > largest:
                raise FileTooLarge(largest=largest)
            yield chunk
        if not got:
            raise UrlNotAFile("the server answered with an empty file", status=response.status)

    async def _next(self, response: aiohttp.ClientResponse, seconds: float, got: int) -> bytes:
        """Empty at the end. However small the pieces are that come, the whole has to come at some pace."""
        left = self._patience.grace + got / self._patience.slowest - seconds
        try:
            async with asyncio.timeout(max(0.0, left)):
                return await response.content.readany()
        except (aiohttp.ClientError, OSError) as foreign:
            failure = _broken(foreign)
        raise failure


def _check(response: aiohttp.ClientResponse, largest: int) -> None:
    """Before anything of the body is read. Raises UrlNotAFile, FileTooLarge."""
    status = response.status
    if status != HTTPStatus.OK:
        raise UrlNotAFile(
            f"the server answered with HTTP {status} and no file: check that the URL opens in a browser that is not "
            "logged in",
            status=status,
        )
    if response.headers.get("Content-Encoding", "").strip().lower() not in UNPACKED:
        raise UrlNotAFile("the server packs the file though it was asked not to: upload the file itself", status=status)
    if response.content_length is not None and response.content_length > largest:
        raise FileTooLarge(largest=largest)


def _unreachable(foreign: Exception) -> FetchError:
    return UrlFetchFailed(f"the URL cannot be fetched: {_cause(foreign)}")


def _broken(foreign: Exception) -> FetchError:
    if isinstance(foreign, TimeoutError):
        return UrlFetchFailed("the server sends the file too slowly, or has stopped: try again, or upload it yourself")
    return UrlFetchFailed("the connection broke before the whole file had come: try again")


def _cause(foreign: Exception) -> str:
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
