"""Ingest of one file: check, store, and add to a bot's library."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from telewarm.database import blobs, media, queue_priority
from telewarm.database.connection import Pool
from telewarm.database.lane_queue import enqueue_lane
from telewarm.errors import Conflict, DecoderFailed, ObjectMissing, StoreUnavailable, UnreadableMedia
from telewarm.media.names import name_of
from telewarm.models import Blob, Bot, Kind, MediaItem, MediaMetadata, MediaState
from telewarm.probe import Probe, check, check_size, choose_kind, is_measured, wants_thumbnail
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.incoming_file import IncomingFile
from telewarm.storage.keys import blob_key, thumbnail_key
from telewarm.storage.object_store import BlobStore
from telewarm.storage.put_source import FileFingerprint

log = structlog.get_logger(__name__)

MAX_STORE_ATTEMPTS = 3  # when the object is collected at the same time


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestResult:
    """Result of an ingest.

    `created`: False when the bot had these bytes as this kind already; nothing was uploaded then. `note`: why the file
    became a document, or the name of the existing item.
    """

    item: MediaItem
    created: bool
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LibraryLimits:
    """`max_bytes`: of a file. `local_server`: Telegram's rules for a local Bot API server apply."""

    max_bytes: int
    local_server: bool


class BlobCollected(Exception):
    """The objects of this blob were collected after they were stored."""


class MediaIngest:
    """Checks and stores received files."""

    def __init__(
        self, *, pool: Pool, store: BlobStore, disk_cache: BlobCache, probe: Probe, limits: LibraryLimits
    ) -> None:
        self._pool = pool
        self._store = store
        self._disk_cache = disk_cache
        self._probe = probe
        self._limits = limits

    async def add(self, bot: Bot, incoming: IncomingFile, *, kind: Kind | None, name: str | None) -> IngestResult:
        """Add a file as `MediaLibrary.add` does."""
        check_size(incoming.bytes, largest=self._limits.max_bytes)
        name = name_of(name)
        sha256, seal = incoming.sha256, incoming.fingerprint
        here = kind and await media.find(self._pool, bot_id=bot.id, sha256=sha256, kind=kind)
        if here and here.state in {MediaState.READY, MediaState.WARMING}:
            return IngestResult(item=here, created=False, note=_duplicate_note(here, name))
        blob = await blobs.get(self._pool, sha256)
        facts, kind, why = await self._probe_and_choose_kind(incoming.path, blob, kind, name)
        check(facts, kind, local_server=self._limits.local_server)
        blob = None if blob is None else replace(blob, facts=facts)
        if blob is None:
            blob = Blob(sha256=sha256, storage_key=blob_key(sha256, facts.ext), thumbnail_key=None, facts=facts)
            await self._store_blob(blob, incoming.path, seal)
        elif await self._store.size(blob.storage_key) is None:  # missing in the store: adding it again repairs that
            await self._store_blob(blob, incoming.path, seal)
        if blob.thumbnail_key is None and wants_thumbnail(kind, facts):
            blob = await self._with_thumbnail(blob, incoming.path)
        await self._disk_cache.insert(incoming, sha256)
        with self._disk_cache.pin_if_cached(sha256):  # pinned: a collection leaves the bytes for a retry
            added = await self._insert_with_retry(bot, blob, kind, name)
        notes = [
            f"taken as a document: {why}" if why else None,
            None if added.created else _duplicate_note(added.item, name),
        ]
        return replace(added, note="; ".join(note for note in notes if note) or None)

    async def _probe_and_choose_kind(
        self, path: Path, blob: Blob | None, kind: Kind | None, name: str | None
    ) -> tuple[MediaMetadata, Kind, str | None]:
        """Return the metadata, the kind, and why that is a document if nobody asked for one.

        Raises UnreadableMedia and, for a requested kind, DecoderFailed: otherwise a failed decoder does not keep a file
        out. Metadata that an older version or a document left unmeasured is measured again.
        """
        if blob is not None and (kind is Kind.DOCUMENT or is_measured(blob.facts)):
            facts, error = blob.facts, None
        else:
            facts, error = await self._probe.look(path)
        if kind is not None:
            if error is not None and kind is not Kind.DOCUMENT:
                raise error
            return facts, kind, None
        if error is not None:
            log.info("media_taken_as_document", error=error.message)
            return facts, Kind.DOCUMENT, error.problem
        chosen, why = choose_kind(facts, name=name)
        return facts, chosen, why

    async def _store_blob(self, blob: Blob, path: Path, fingerprint: FileFingerprint | None = None) -> None:
        await self._store.put_file(
            blob.storage_key, path, sha256=blob.sha256, bytes=blob.facts.bytes, fingerprint=fingerprint
        )

    async def _with_thumbnail(self, blob: Blob, path: Path) -> Blob:
        """Add a thumbnail. A file without one is accepted all the same."""
        try:
            thumbnail = await self._probe.thumbnail(path, blob.facts)
        except (UnreadableMedia, DecoderFailed) as error:
            log.info("thumbnail_failed", sha256=blob.sha256, error=error.message)
            return blob
        if thumbnail is None:
            return blob
        key = thumbnail_key(blob.sha256)
        await self._store.put_bytes(key, thumbnail)
        return replace(blob, thumbnail_key=key, thumbnail_bytes=len(thumbnail))

    async def _insert_with_retry(self, bot: Bot, blob: Blob, kind: Kind, name: str | None) -> IngestResult:
        """Insert the rows once the objects are surely stored."""
        for _ in range(MAX_STORE_ATTEMPTS):
            try:
                return await self._insert(bot, blob, kind, name)
            except BlobCollected:
                await self._store_blob_again(blob)
        raise StoreUnavailable("the file is being deleted from the library in this very moment: send it again")

    async def _store_blob_again(self, blob: Blob) -> None:
        try:
            async with self._disk_cache.open(blob.sha256, blob.storage_key) as path:
                await self._store_blob(blob, path)
                if blob.thumbnail_key is not None:
                    await self._with_thumbnail(blob, path)
        except ObjectMissing:
            raise StoreUnavailable("the file was deleted from the library in this very moment: send it again") from None

    async def _insert(self, bot: Bot, blob: Blob, kind: Kind, name: str | None) -> IngestResult:
        """Insert the rows. Raises BlobCollected."""
        async with self._pool.acquire() as connection, connection.transaction():
            inserted = await media.insert(
                connection,
                bot_id=bot.id,
                blob=blob,
                kind=kind,
                name=name,
                priority_offset=queue_priority.priority_offset(blob.facts.bytes),
            )
            if inserted is not None:
                if inserted.had_tombstone and not await self._is_stored(blob):
                    raise BlobCollected
                await enqueue_lane(connection, bot)
        if inserted is not None:
            log_queued(bot, inserted.item)
            return IngestResult(item=inserted.item, created=inserted.created)
        item = await media.find(self._pool, bot_id=bot.id, sha256=blob.sha256, kind=kind)
        if item is None:
            raise Conflict("the media item was deleted in the moment in which it was added: add it again")
        return IngestResult(item=item, created=False)

    async def _is_stored(self, blob: Blob) -> bool:
        keys = [blob.storage_key] if blob.thumbnail_key is None else [blob.storage_key, blob.thumbnail_key]
        return all([await self._store.size(key) is not None for key in keys])


def _duplicate_note(item: MediaItem, name: str | None) -> str | None:
    """Return a remark on the existing name, which stays."""
    if name is None or name == item.name:
        return None
    return "already there without a name" if item.name is None else f'already there as "{item.name}"'


def log_queued(bot: Bot, item: MediaItem) -> None:
    """Log a queued item."""
    facts = {"media_id": item.id, "kind": item.kind, "bytes": item.facts.bytes, "attempts": item.attempts}
    log.info("warmup_queued", bot=bot.slug, **facts)
