"""Body of an upload, in the order of its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from telewarm.errors import ObjectCorrupt, ObjectMissing, StoreUnavailable
from telewarm.telegram.files import FileUpload

MAX_INLINE_READ_BYTES = 1 << 20  # up to here a read is faster than a switch to a thread and back
CHUNK_BYTES = 1 << 18  # bytes


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
