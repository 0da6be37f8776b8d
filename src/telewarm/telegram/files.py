"""Forms of a file to send: file id, URL, path on the Bot API server's disk, or bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeAlias

import msgspec

from telewarm.models import FileId

OpenChunks: TypeAlias = Callable[[], AsyncIterator[bytes]]  # called for each attempt
Thumbnail: TypeAlias = bytes  # a JPEG within 320 x 320 and 200 kB


class FileIdRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file that this bot has sent before; without a size limit."""

    file_id: FileId


@dataclass(frozen=True, kw_only=True, slots=True)
class UrlRef:
    """A URL that Telegram fetches: photos up to 5 MB, other kinds up to 20 MB."""

    url: str = field(repr=False)  # a valid presigned URL is a secret


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalPathRef:
    """An absolute path that a Bot API server started with `--local` can read."""

    path: Path  # its last part is the file name that recipients see
    thumbnail: Thumbnail | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileUpload:
    """Bytes to upload, from a file (`path`) or from chunks that can be read again for a retry (`FileUpload.stream`)."""

    filename: str
    mime: str
    bytes: int  # exact: it is announced before the first byte
    thumbnail: Thumbnail | None = None
    path: Path | None = None
    open: OpenChunks | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.open is None):
            raise ValueError("an upload has a path or an open function: one of the two")

    @classmethod
    def stream(
        cls,
        open: OpenChunks,  # noqa: A002 - the names of the fields
        *,
        filename: str,
        mime: str,
        bytes: int,  # noqa: A002 - the names of the fields
        thumbnail: Thumbnail | None = None,
    ) -> Self:
        """Create an upload from chunks."""
        return cls(filename=filename, mime=mime, bytes=bytes, thumbnail=thumbnail, open=open)

    @property
    def total(self) -> int:
        """File bytes of the request, by which Telegram spaces equal sizes."""
        return self.bytes + len(self.thumbnail or b"")


MediaFile: TypeAlias = FileIdRef | UrlRef | LocalPathRef | FileUpload
