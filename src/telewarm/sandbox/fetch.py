"""Files by URL: fetched from loopback only, cached for days, failures included (facts 1.1, 4.5)."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp
from yarl import URL

from telewarm.sandbox.clock import monotonic
from telewarm.sandbox.errors import ApiError, bad
from telewarm.sandbox.uploads import FileSink, Upload

PHOTO_LIMIT = 5 << 20  # bytes
FILE_LIMIT = 20 << 20
CHUNK_BYTES = 64 * 1024
MAX_REDIRECTS = 5
MAX_REMEMBERED = 10_000
FAILED = "failed to get HTTP URL content"


@dataclass(frozen=True, slots=True)
class Remembered:
    """A cached result."""

    until: float
    upload: Upload | None  # None: it failed


class Fetcher:
    """Fetcher with one HTTP client, opened at the first fetch."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._remembered: OrderedDict[str, Remembered] = OrderedDict()

    def recall(self, url: str) -> Upload | None:
        """Return what this URL returned before; raises if it failed; None for a new one."""
        known = self._remembered.get(url)
        if known is None or known.until < monotonic():
            return None
        if known.upload is None:
            raise bad(FAILED)
        return known.upload

    async def fetch(self, url: str, *, limit: int, keep: int, timeout: float, remember: float) -> Upload:
        """Fetch a file. Raises ApiError, also for more than `limit` bytes."""
        upload: Upload | None = None
        try:
            upload = await self._get(url, limit=limit, keep=keep, timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            raise bad(FAILED) from None
        finally:
            self._remember(url, Remembered(monotonic() + remember, upload))
        return upload

    def _remember(self, url: str, known: Remembered) -> None:
        self._remembered[url] = known
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    async def _get(self, url: str, *, limit: int, keep: int, timeout: float) -> Upload:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers={"User-Agent": "TelegramBot (like TwitterBot)"})
        wait = aiohttp.ClientTimeout(total=timeout)
        for _ in range(MAX_REDIRECTS + 1):
            check_loopback(url)
            target = URL(url, encoded=True)  # a presigned URL must stay as it was signed
            async with self._session.get(target, allow_redirects=False, timeout=wait) as response:
                if response.status in {301, 302, 303, 307, 308}:
                    url = urljoin(url, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    raise bad(FAILED)
                return await _read(response, url, limit=limit, keep=keep)
        raise bad(FAILED)

    def clear(self) -> None:
        """Clear the cache."""
        self._remembered.clear()

    async def close(self) -> None:
        """Close the client."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(response: aiohttp.ClientResponse, url: str, *, limit: int, keep: int) -> Upload:
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    sink = FileSink(name, response.content_type, keep=keep)
    size = 0
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        size += len(chunk)
        if size > limit:
            raise bad(FAILED)
        sink.write(chunk)
    return sink.finish()


def check_url(text: str) -> str:
    """Return the URL with its scheme. Raises ApiError."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _invalid("Wrong port number specified in the URL") from None
    if parts.scheme.lower() not in {"http", "https"}:
        raise _invalid("Unsupported URL protocol")
    if not parts.hostname:
        raise _invalid("URL host is empty")
    if port == 0:
        raise _invalid("Wrong port number specified in the URL")
    return url


def check_loopback(url: str) -> None:
    """Raise ApiError for another machine: the sandbox reaches only loopback."""
    host = urlsplit(url).hostname or ""
    try:
        inside = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise bad(FAILED)


def _invalid(detail: str) -> ApiError:
    return bad(f"invalid file HTTP URL specified: {detail}")
