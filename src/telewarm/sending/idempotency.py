"""Idempotency keys: a repeated call returns the first result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Protocol
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from telewarm import background, clock, errors
from telewarm.cures import Interface
from telewarm.database import idempotency
from telewarm.database.connection import Pool
from telewarm.database.idempotency import IdempotencyRecord
from telewarm.database.leases import ProcessLease
from telewarm.database.retry import retry_transient
from telewarm.database.transient import is_transient
from telewarm.errors import Conflict, TelewarmError, UsageError
from telewarm.idle_tracking import mark_idle
from telewarm.logs import redact
from telewarm.models import BotId
from telewarm.sending.send_context import SendResult

log = structlog.get_logger(__name__)

MAX_KEY_CHARACTERS = 200  # characters
POLL_FIRST_SECONDS, POLL_MAX_SECONDS = 0.05, 1.0  # seconds between polls of another process, growing
WRITE_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)  # seconds between write attempts while the database is unavailable

# Nothing was sent for sure, and a retry may succeed.
TRANSIENT_ERROR_CODES = frozenset(
    error.code
    for error in (
        errors.FloodWait,
        errors.MediaNotReady,
        errors.DatabaseUnavailable,
        errors.StoreUnavailable,
        errors.TelegramUnreachable,
        errors.InvalidBotToken,
    )
)

Results = list[dict[str, object]]


class WriteResult(Protocol):
    """Writes the result of a claimed key."""

    async def __call__(self, db: Pool, bot_id: BotId, key: str, /, *, lease_id: UUID) -> None:
        """Write the result, if the key is still claimed by this lease."""
        ...


def describe(result: SendResult, face: Interface = Interface.API) -> dict[str, object]:
    """Return a result as JSON. `maybe_sent`: it failed, and the message may have been delivered all the same."""
    shown: dict[str, object] = {
        "message_id": result.message_id,
        "kind": "text" if result.media_id is None else result.kind,
        "cache_hit": result.cache_hit,
        "lat_ms": result.lat_ms,
    }
    if result.media_id is not None:
        shown["media_id"] = result.media_id
    if result.moved_to is not None:
        shown["moved_to"] = result.moved_to
    if (error := result.error) is not None:
        shown |= {"error": error.code, "message": redact(error.message_for(face))}
        if isinstance(error, errors.FloodWait | errors.MediaNotReady):
            shown["retry_after"] = error.retry_after
        if result.maybe_sent:
            shown["maybe_sent"] = True
    return shown


def nothing_was_sent(results: Sequence[dict[str, object]]) -> bool:
    """Return whether nothing was sent for sure, for temporary reasons."""
    return all(one.get("error") in TRANSIENT_ERROR_CODES and "maybe_sent" not in one for one in results)


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyKey:
    """A claimed key. `lease_id`: the process lease that holds the claim."""

    bot_id: BotId
    text: str
    lease_id: UUID


class IdempotencyStore:
    """Idempotency keys, separate for each bot, remembered for a day."""

    def __init__(self, *, pool: Pool, lease: ProcessLease) -> None:
        self._pool = pool
        self._lease = lease
        self._locks: WeakValueDictionary[tuple[BotId, str], asyncio.Lock] = WeakValueDictionary()

    async def run(
        self, bot_id: BotId, key: str, request: bytes, sending: Callable[[], Awaitable[Results]], *, patience: float
    ) -> tuple[Results, bool]:
        """Return the results as `describe` gives them, and whether they come from an earlier call.

        `request`: canonical bytes of the request. A concurrent call with the same key waits for the first one, at most
        `patience` seconds. When nothing was sent for temporary reasons, the key counts as unused. Raises UsageError for
        a malformed key; Conflict when the key belongs to another message, when the first call is still running, and
        when its outcome is unknown.
        """
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
            raise UsageError(f"an idempotency key has 1 to {MAX_KEY_CHARACTERS} printable characters, such as a UUID")
        deadline = clock.monotonic() + patience
        lock = self._locks.setdefault((bot_id, key), asyncio.Lock())
        try:
            with mark_idle():
                async with asyncio.timeout(patience):
                    await lock.acquire()
        except TimeoutError:
            raise _in_progress(key) from None
        try:
            return await self._locked(bot_id, key, sha256(request).digest(), sending, deadline)
        finally:
            lock.release()

    async def _locked(
        self,
        bot_id: BotId,
        key: str,
        fingerprint: bytes,
        sending: Callable[[], Awaitable[Results]],
        deadline: float,
    ) -> tuple[Results, bool]:
        """Run under the lock of the key: no other call of this process uses it."""
        pause = POLL_FIRST_SECONDS
        while True:
            own = IdempotencyKey(bot_id=bot_id, text=key, lease_id=self._lease.id)
            if await self._claim(own, fingerprint):
                return await self._send(own, sending), False
            first = await idempotency.get(self._pool, bot_id, key)
            if first is None:
                continue
            if (result := _stored_result(first, own, fingerprint)) is not None:
                return result, True
            left = deadline - clock.monotonic()
            if left <= 0:
                raise _in_progress(key)
            with mark_idle():
                await clock.sleep(min(pause, left))
            pause = min(2 * pause, POLL_MAX_SECONDS)

    async def _claim(self, key: IdempotencyKey, fingerprint: bytes) -> bool:
        """Claim the key. When cancelled, nothing was sent yet: a key claimed by then is released."""
        try:
            return await idempotency.claim(
                self._pool, key.bot_id, key.text, fingerprint=fingerprint, lease_id=key.lease_id
            )
        except BaseException:
            await self._write_shielded(key, idempotency.release)
            raise

    async def _send(self, key: IdempotencyKey, sending: Callable[[], Awaitable[Results]]) -> Results:
        try:
            results = await sending()
        except BaseException as error:
            known = isinstance(error, TelewarmError) or is_transient(error)  # raised before anything is sent
            await self._write_shielded(key, idempotency.release if known else idempotency.mark_unknown)
            raise
        if nothing_was_sent(results):
            await self._write_shielded(key, idempotency.release)
        else:
            await self._write_shielded(key, partial(idempotency.finish, result=results))
        return results

    async def _write_shielded(self, key: IdempotencyKey, write: WriteResult) -> None:
        """Write to the end, and cancel only after it: the record of a sent message must not be lost."""
        writing = background.start(self._write(key, write), name="result of a send")
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    async def _write(self, key: IdempotencyKey, write: WriteResult) -> None:
        """Write, with retries.

        While the database stays unavailable the key stays claimed: its message is never sent twice.
        """
        work = partial(write, self._pool, key.bot_id, key.text, lease_id=key.lease_id)
        try:
            await retry_transient(work, event="idempotent_result_write_retried", delays=WRITE_RETRY_SECONDS)
        except Exception as error:
            log.exception("idempotent_result_lost", exc_info=not is_transient(error), error=type(error).__name__)


def _stored_result(first: IdempotencyRecord, own: IdempotencyKey, fingerprint: bytes) -> Results | None:
    """Return the stored result of the first call; None while another process runs it."""
    if first.fingerprint != fingerprint:
        raise Conflict(
            f"the idempotency key {own.text!r} was used for another message: use a new key for a new message"
        )
    if first.result is None and first.holder in {None, own.lease_id}:
        raise Conflict(
            f"the send with the idempotency key {own.text!r} was broken off, and nobody knows what of it went: look at "
            "the chat, and if it is not there send it with another key"
        )
    return first.result


def _in_progress(key: str) -> Conflict:
    return Conflict(
        f"a send with the idempotency key {key!r} is still under way: ask again with the same key, and its result will "
        "be the answer"
    )
