"""Table `blob`."""

from __future__ import annotations

import asyncpg

from telewarm.database.connection import Executor
from telewarm.models import Blob, MediaMetadata, Sha256

COLUMNS = (
    "blob.sha256, blob.storage_key, blob.thumbnail_key, blob.thumbnail_bytes, blob.bytes, blob.mime, blob.ext,"
    " blob.width, blob.height, blob.duration, blob.video_codec, blob.audio_codec, blob.title, blob.performer,"
    " blob.streamable"
)


async def get(db: Executor, sha256: Sha256) -> Blob | None:
    """Return a blob, if it exists."""
    row = await db.fetchrow(f"SELECT {COLUMNS} FROM blob WHERE sha256 = $1", sha256)
    return None if row is None else blob_of(row)


def metadata_of(row: asyncpg.Record) -> MediaMetadata:
    """Convert a row."""
    return MediaMetadata(
        bytes=row["bytes"],
        mime=row["mime"],
        ext=row["ext"],
        width=row["width"],
        height=row["height"],
        duration=row["duration"],
        video_codec=row["video_codec"],
        audio_codec=row["audio_codec"],
        title=row["title"],
        performer=row["performer"],
        streamable=row["streamable"],
    )


def blob_of(row: asyncpg.Record) -> Blob:
    """Convert a row."""
    return Blob(
        sha256=Sha256(row["sha256"]),
        storage_key=row["storage_key"],
        thumbnail_key=row["thumbnail_key"],
        thumbnail_bytes=row["thumbnail_bytes"],
        facts=metadata_of(row),
    )
