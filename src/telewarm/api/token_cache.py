"""Cache of all API tokens, valid for a minute or until a NOTIFY."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf

import structlog

from telewarm import background, clock
from telewarm.api.permissions import Principal
from telewarm.database import tokens
from telewarm.database.connection import Pool
from telewarm.database.notifications import subscribe
from telewarm.database.retry import log_transient
from telewarm.database.transient import is_transient
from telewarm.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

CACHE_TTL_SECONDS = 60.0  # seconds
BACKGROUND_REFRESH_SECONDS = 30.0  # seconds after which it is read again on the side
MIN_REFRESH_SECONDS = 1.0  # seconds between two reads that unknown tokens or a lost database cause
LAST_USED_UPDATE_SECONDS = 60.0  # seconds between two notes that a token is in use
READ_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A cached secret with its owner."""

    token: tokens.ValidToken
    principal: Principal
    expires_at: float  # monotonic


class ApiTokenCache:
    """Cache of this process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._entries: dict[bytes, CacheEntry] = {}
        self._read_at = self._read_attempted_at = self._invalidated_at = -inf  # monotonic: when the last one began
        self._read_lock = asyncio.Lock()
        self._use_written_at: dict[int, float] = {}  # by token, when its use was last noted
        self._tasks = background.BackgroundTasks()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read the tokens and listen for changes. Raises DatabaseUnavailable."""
        try:
            async with subscribe(self._pool, {tokens.CHANNEL: self.invalidate}, on_lost=self._refresh_in_background):
                await self._read(clock.monotonic())
                yield
        finally:
            await self._tasks.close(timeout_seconds=READ_TIMEOUT_SECONDS)

    async def find_principal(self, secret: str) -> Principal | None:
        """Return the owner of a secret, None for an invalid one. Raises DatabaseUnavailable when that is unknown."""
        now = clock.monotonic()
        if self._invalidated_at > self._read_at or now - self._read_at >= CACHE_TTL_SECONDS:
            await self._read(max(self._invalidated_at, now - MIN_REFRESH_SECONDS))
        elif now - self._read_at >= BACKGROUND_REFRESH_SECONDS:
            self._refresh_in_background()
        digest = tokens.hash_of(secret)
        entry = self._find(digest)
        if (
            entry is None and now - self._read_attempted_at >= MIN_REFRESH_SECONDS
        ):  # made a moment ago, and the news was lost
            await self._refresh_logged()
            entry = self._find(digest)
        if entry is None:
            return None
        self._update_last_used(entry.token.id)
        return entry.principal

    def invalidate(self, _payload: str = "") -> None:
        """Invalidate the cache, on NOTIFY or after a change by a route."""
        self._invalidated_at = clock.monotonic()
        self._tasks.start(self._refresh_logged(), name="read api tokens")

    def _refresh_in_background(self) -> None:
        if clock.monotonic() - self._read_attempted_at >= MIN_REFRESH_SECONDS:
            self._tasks.start(self._refresh_logged(), name="read api tokens")

    def _find(self, digest: bytes) -> CacheEntry | None:
        """Find an entry by its hash, about which callers learn nothing; the final comparison is constant-time."""
        entry = self._entries.get(digest)
        if entry is None or not hmac.compare_digest(entry.token.hash, digest) or entry.expires_at <= clock.monotonic():
            return None
        return entry

    async def _refresh_logged(self) -> None:
        try:
            await self._read(max(self._invalidated_at, clock.monotonic() - MIN_REFRESH_SECONDS))
        except DatabaseUnavailable as error:
            log.warning("api_tokens_refresh_failed", error=str(error))

    async def _read(self, since: float) -> None:
        """Read the tokens as of `since` or later. Concurrent callers share one read, even a failed one."""
        async with self._read_lock:
            if self._read_at >= since:
                return
            if self._read_attempted_at >= since:
                raise _unverifiable()
            began = self._read_attempted_at = clock.monotonic()
            try:
                async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                    found = await tokens.valid_tokens(self._pool)
            except Exception as error:
                if not is_transient(error):
                    raise
                raise _unverifiable() from error
            now = clock.monotonic()
            self._entries = {one.hash: _cache_entry(one, now) for one in found}
            self._use_written_at = {one.id: self._use_written_at.get(one.id, -inf) for one in found}
            self._read_at = began

    def _update_last_used(self, token_id: int) -> None:
        now = clock.monotonic()
        if now - self._use_written_at.get(token_id, -inf) >= LAST_USED_UPDATE_SECONDS:
            self._use_written_at[token_id] = now
            self._tasks.start(self._write_last_used(token_id), name="note use of api token")

    async def _write_last_used(self, token_id: int) -> None:
        with log_transient("api_token_last_used_update_failed", token_id=token_id):
            await tokens.update_last_used(self._pool, token_id)


def _cache_entry(token: tokens.ValidToken, now: float) -> CacheEntry:
    until = inf if token.seconds_left is None else now + token.seconds_left
    return CacheEntry(token, Principal(name=token.name, role=token.role), until)


def _unverifiable() -> DatabaseUnavailable:
    return DatabaseUnavailable(
        "the database is away, so nobody can say what this API token may do: try again in a moment, or use "
        "the server's own (`telewarm token show`)"
    )
