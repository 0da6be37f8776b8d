"""Cache of the API tokens: read as a whole, kept for a minute or until NOTIFY."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf

import structlog

from telewarm import background, clock
from telewarm.api.permissions import Principal
from telewarm.database import tokens
from telewarm.database.connection import Pool
from telewarm.database.notifications import listening
from telewarm.database.transient import is_transient
from telewarm.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

CACHE_TTL_SECONDS = 60.0  # seconds
RENEWED = 30.0  # seconds after which it is read again on the side
MIN_REFRESH_SECONDS = 1.0  # seconds between two reads that unknown tokens or a lost database cause
USED_EVERY = 60.0  # seconds between two notes that a token is in use
READ_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CacheEntry:
    good: tokens.ValidToken
    caller: Principal
    until: float  # monotonic


class ApiTokenCache:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._entries: dict[bytes, CacheEntry] = {}
        self._read_at = self._tried_at = self._heard_at = -inf  # monotonic: when the last one began
        self._turn = asyncio.Lock()
        self._noted: dict[int, float] = {}  # by token, when its use was last noted
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Read the tokens, and hear of changes that other processes make. Raises DatabaseUnavailable."""
        try:
            async with listening(self._pool, {tokens.CHANNEL: self.invalidate}, on_lost=self._renew):
                await self._read(clock.monotonic())
                yield
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=READ_SECONDS)
            for task in self._tasks:
                task.cancel()

    async def caller(self, secret: str) -> Principal | None:
        """Whose it is, None if it opens nothing now. Raises DatabaseUnavailable when that cannot be known."""
        now = clock.monotonic()
        if self._heard_at > self._read_at or now - self._read_at >= CACHE_TTL_SECONDS:
            await self._read(max(self._heard_at, now - MIN_REFRESH_SECONDS))
        elif now - self._read_at >= RENEWED:
            self._renew()
        digest = tokens.hash_of(secret)
        entry = self._find(digest)
        if entry is None and now - self._tried_at >= MIN_REFRESH_SECONDS:  # made a moment ago, and the news was lost
            await self._refresh_logged()
            entry = self._find(digest)
        if entry is None:
            return None
        self._note_use(entry.good.id)
        return entry.caller

    def invalidate(self, _payload: str = "") -> None:
        """What NOTIFY says, or a route that changed a token: nothing that was read before is believed."""
        self._heard_at = clock.monotonic()
        self._in_background(self._refresh_logged(), name="read api tokens")

    def _renew(self) -> None:
        if clock.monotonic() - self._tried_at >= MIN_REFRESH_SECONDS:
            self._in_background(self._refresh_logged(), name="read api tokens")

    def _find(self, digest: bytes) -> CacheEntry | None:
        """The dictionary is by hash, of which a caller learns nothing by trying; the last comparison takes constant
        time too."""
        entry = self._entries.get(digest)
        if entry is None or not hmac.compare_digest(entry.good.hash, digest) or entry.until <= clock.monotonic():
            return None
        return entry

    async def _refresh_logged(self) -> None:
        try:
            await self._read(max(self._heard_at, clock.monotonic() - MIN_REFRESH_SECONDS))
        except DatabaseUnavailable as error:
            log.warning("api_tokens_refresh_failed", error=str(error))

    async def _read(self, since: float) -> None:
        """Know the tokens as they were at `since` or later; who asks at once shares one read, also one that failed."""
        async with self._turn:
            if self._read_at >= since:
                return
            if self._tried_at >= since:
                raise _unknown()
            began = self._tried_at = clock.monotonic()
            try:
                async with asyncio.timeout(READ_SECONDS):
                    found = await tokens.good(self._pool)
            except Exception as error:
                if not is_transient(error):
                    raise
                raise _unknown() from error
            now = clock.monotonic()
            self._entries = {one.hash: _entry(one, now) for one in found}
            self._noted = {one.id: self._noted.get(one.id, -inf) for one in found}
            self._read_at = began

    def _note_use(self, token_id: int) -> None:
        now = clock.monotonic()
        if now - self._noted.get(token_id, -inf) >= USED_EVERY:
            self._noted[token_id] = now
            self._in_background(self._write_use(token_id), name="note use of api token")

    async def _write_use(self, token_id: int) -> None:
        try:
            await tokens.used(self._pool, token_id)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("api_token_last_used_update_failed", token_id=token_id, error=type(error).__name__)

    def _in_background(self, work: Coroutine[None, None, None], *, name: str) -> None:
        task = background.start(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _entry(good: tokens.ValidToken, now: float) -> CacheEntry:
    until = inf if good.left is None else now + good.left
    return CacheEntry(good, Principal(name=good.name, role=good.role), until)


def _unknown() -> DatabaseUnavailable:
    return DatabaseUnavailable(
        "the database is away, so nobody can say what this API token may do: try again in a moment, or use "
        "the server's own (`telewarm token show`)"
    )
