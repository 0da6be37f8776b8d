"""Transport: one async (Request) -> Response, uploads included. The only user of aiohttp in this package."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from telewarm.errors import ObjectCorrupt, ObjectMissing, StoreUnavailable, TelegramUnreachable
from telewarm.telegram.files import FileUpload
from telewarm.telegram.multipart import Multipart

MAX_INLINE_READ_BYTES = 1 << 20  # up to here a read is faster than a switch to a thread and back
CHUNK_BYTES = 1 << 18  # bytes
CONNECT_SECONDS = 10.0  # for one connection
PROXY_AUTH_REQUIRED = 407
KEEP_ALIVE_SECONDS = 30.0  # of an idle connection: less than servers keep it open
# aiohttp has its own since 3.10.
ConnectTimeoutError: type[aiohttp.ServerTimeoutError] = getattr(
    aiohttp, "ConnectionTimeoutError", aiohttp.ServerTimeoutError
)
DNS_CACHE_SECONDS = 300  # cache time of a resolved name


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `url` holds the token and `body` foreign text, so neither is part of the repr."""

    method: str  # Bot API method
    chat_id: int | None = None
    url: str
    body: bytes | Multipart  # bytes: JSON
    timeout: float  # seconds for the whole call

    def __repr__(self) -> str:
        return f"Request(method={self.method!r}, chat_id={self.chat_id})"


class Response(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Response of a Bot API server."""

    status: int
    body: bytes
    retry_after: str | None = None  # header of that name

    def __repr__(self) -> str:
        return f"Response(status={self.status})"


SendRequest: TypeAlias = Callable[[Request], Awaitable[Response]]


class Transport:
    """One pool of keep-alive connections for all bots of the process."""

    def __init__(self, session: aiohttp.ClientSession, *, proxy: str | None = None) -> None:
        self._session = session
        self._proxy = proxy

    @classmethod
    @asynccontextmanager
    async def open(cls, *, connections: int = 256, proxy: str | None = None) -> AsyncIterator[Transport]:
        """Open a pool with at most `connections` to one server.

        Further calls wait for a connection, within their own timeout. `proxy`: URL of an HTTP proxy for all calls.
        """
        connector = aiohttp.TCPConnector(
            limit=0, limit_per_host=connections, keepalive_timeout=KEEP_ALIVE_SECONDS, ttl_dns_cache=DNS_CACHE_SECONDS
        )
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield cls(session, proxy=proxy)

    async def __call__(self, request: Request) -> Response:
        """Make a call.

        Raises TelegramUnreachable, and the errors of reading an upload. Cancelling closes the connection.
        """
        body = StreamedPayload(request.body)
        try:
            return await self._post(request, body)
        except (aiohttp.ClientError, OSError) as foreign:
            left = body.left and not isinstance(foreign, aiohttp.ClientHttpProxyError)  # a proxy passed nothing on
            failure = body.failure or unreachable(request, foreign, effect_possible=left)
        # Raised out here, so that no foreign error, whose text may hold the URL, becomes its context.
        raise failure

    async def reach(self, root: str, *, timeout: float = CONNECT_SECONDS) -> None:
        """Check that a Bot API server responds, without a token. Raises TelegramUnreachable."""
        request = Request(method="GET", url=f"{root.rstrip('/')}/", body=b"", timeout=timeout)
        try:
            async with self._session.get(
                _url(request.url), timeout=_timeout(timeout), proxy=self._proxy, allow_redirects=False
            ):
                return
        except (aiohttp.ClientError, OSError) as foreign:
            failure = unreachable(request, foreign, effect_possible=False)
        raise failure

    async def _post(self, request: Request, body: StreamedPayload) -> Response:
        async with self._session.post(
            _url(request.url),
            data=body,
            timeout=_timeout(request.timeout),
            proxy=self._proxy,
            allow_redirects=False,  # the URL holds the token, which only the configured server may see
        ) as response:
            if self._proxy and response.status == PROXY_AUTH_REQUIRED:
                raise aiohttp.ClientHttpProxyError(response.request_info, (), status=response.status)
            return Response(
                status=response.status, body=await response.read(), retry_after=response.headers.get("Retry-After")
            )


@lru_cache(maxsize=1024)
def _url(url: str) -> URL:
    """Return the URL object, cached and unquoted: there are about a dozen URLs a bot."""
    return URL(url, encoded=True)


@lru_cache(maxsize=64)
def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)


class StreamedPayload(aiohttp.Payload):
    """`left`: the last byte was handed to the connection. `failure`: the error of reading an upload."""

    _autoclose = True

    def __init__(self, body: bytes | Multipart) -> None:
        super().__init__(body, content_type=body.content_type if isinstance(body, Multipart) else "application/json")
        self._size = body.length if isinstance(body, Multipart) else len(body)
        self.left = False
        self.failure: Exception | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        """Return an empty text, for aiohttp's tracing."""
        raise TypeError("a request body is written, never read back")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body."""
        if isinstance(self._value, Multipart):
            await self._write_form(self._value, writer)
        else:
            self.left = True
            await writer.write(self._value)

    async def _write_form(self, form: Multipart, writer: AbstractStreamWriter) -> None:
        """Write the form. A write waits while the connection is full, so the tail is written only after all uploads."""
        for piece in form.pieces:
            if isinstance(piece, bytes):
                await writer.write(piece)
                continue
            async with aclosing(self._read(piece)) as chunks:
                async for chunk in chunks:
                    await writer.write(chunk)
        self.left = True
        await writer.write(form.tail)

    async def _read(self, upload: FileUpload) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(iter_body(upload)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exception as failure:
            self.failure = failure
            raise


def unreachable(request: Request, error: Exception, *, effect_possible: bool) -> TelegramUnreachable:
    """Create the error of a call without a response."""
    to = "" if request.chat_id is None else f" to chat {request.chat_id}"
    after = "it may have been carried out anyway" if effect_possible else "nothing was sent"
    return TelegramUnreachable(
        f"No answer to {request.method}{to}: {describe_error(error, request.timeout)}; {after}",
        method=request.method,
        chat_id=request.chat_id,
        effect_possible=effect_possible,
    )


def describe_error(error: Exception, timeout: float) -> str:
    """Describe a foreign error in our words, since its text may hold the URL with the token."""
    match error:
        case aiohttp.ClientProxyConnectionError(host=host, port=port):
            cause = _describe_cause(error)
            return f"no connection to the proxy {host}:{port} ({cause}); check TELEWARM_PROXY or HTTPS_PROXY"
        case aiohttp.ClientHttpProxyError(status=status):
            login = (
                "check its user and password"
                if status == PROXY_AUTH_REQUIRED
                else "check that it lets this server through"
            )
            return f"the proxy refused with HTTP status {status}; {login} (TELEWARM_PROXY or HTTPS_PROXY)"
        case aiohttp.ClientConnectorError(host=host, port=port):
            return f"no connection to {host}:{port} ({_describe_cause(error)}); check the network and TELEGRAM_API_ROOT"
        case ConnectTimeoutError():
            return f"no connection within {min(timeout, CONNECT_SECONDS):g} s; check the network and TELEGRAM_API_ROOT"
        case TimeoutError():
            return f"none within {timeout:g} s"
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return "the server closed the connection"
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            return "what came was not a whole HTTP answer"
        case _:
            return f"the connection failed ({_describe_cause(error)})"


def _describe_cause(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number is not None and number > 0 else type(error).__name__


async def iter_body(upload: FileUpload) -> AsyncGenerator[bytes, None]:
    """Yield exactly `upload.bytes` bytes.

    Raises ObjectMissing for a missing file, ObjectCorrupt for one of another length, StoreUnavailable for an unreadable
    one, and the errors of the stream.
    """
    left = upload.bytes
    async with aclosing(_source(upload)) as source:
        async for chunk in source:
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise ObjectCorrupt(f"{upload.filename} was announced with {upload.bytes} bytes and has {_check_length(left)}")


def _check_length(left: int) -> str:
    return f"{left} fewer" if left > 0 else "more"


async def _source(upload: FileUpload) -> AsyncGenerator[bytes, None]:
    if upload.open is not None:
        stream = upload.open()
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await _close(stream)
    elif upload.path is not None:
        try:
            async with aclosing(_file(upload.path, upload.bytes)) as file:
                async for chunk in file:
                    yield chunk
        except FileNotFoundError as missing:
            raise ObjectMissing(f"{upload.path} has gone; add the media item again") from missing
        except OSError as failed:
            raise StoreUnavailable(f"{upload.path} cannot be read: {failed.strerror}") from failed


async def _close(stream: AsyncIterator[bytes]) -> None:
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()


async def _file(path: Path, size: int) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as file:
        if size <= MAX_INLINE_READ_BYTES:
            yield file.read(size + 1)  # one more byte, to detect a file that has grown
            return
        # A cancelled read ends in its thread before `close` gets the file's lock.
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
