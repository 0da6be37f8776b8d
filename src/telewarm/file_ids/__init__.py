"""Obtains file ids by the cheapest method, and drops invalid ones."""

from __future__ import annotations

from telewarm.database import media
from telewarm.database.connection import Executor
from telewarm.file_ids.uploader import FileIdUploader, total_bytes
from telewarm.models import FileId, MediaId

__all__ = ["FileIdUploader", "invalidate", "total_bytes"]


async def invalidate(db: Executor, media_id: MediaId, file_id: FileId) -> bool:
    """Drop an invalid file id, unless it was replaced, and make its item due. Returns whether it was dropped."""
    return await media.drop_file_id(db, media_id=media_id, file_id=file_id)
