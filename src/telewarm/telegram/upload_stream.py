"""Bytes of an upload, in the order in which they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from telewarm.errors import ObjectCorrupt, ObjectMissing, StoreUnavailable
from telewarm.telegram.files import FileUpload

MAX_INLINE_READ_BYTES = 1 << 20  # bytes; up to here a read is shorter than the hop to a thread and back is worth
CHUNK_BYTES = 1 << 18  # bytes


async def iter_body(upload: FileUpload) -> AsyncGenerator[bytes, None]:
    """Exactly `upload.bytes` bytes.

    Raises ObjectMissing when the file has gone, ObjectCorrupt when it has another length, StoreUnavailable when it
    cannot be read, and whatever the stream raises.
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
            yield file.read(size + 1)  # one more, so that a file that has grown shows itself
            return
        # A cancelled read ends in its thread before `close` gets the file's lock.
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
