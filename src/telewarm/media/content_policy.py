"""How a blob may be shown in a browser. Pure."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

# What browsers show or play by themselves without ever running anything of it. All else is a download of mere bytes.
INLINE_TYPES: Final = frozenset(
    {
        "image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/bmp",
        "video/mp4", "video/webm", "video/quicktime",
        "audio/mpeg", "audio/mp4", "audio/ogg", "audio/webm", "audio/aac", "audio/flac", "audio/wav",
    }
)  # fmt: skip
DOWNLOAD_TYPES: Final = frozenset({"application/pdf"})  # a download too, but one that may say what it is
OCTET_STREAM: Final = "application/octet-stream"

ReadRange: TypeAlias = Callable[[int, int], AsyncGenerator[bytes, None]]  # from the first byte to before the last


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewContent:
    """Something to look at. `tag` changes when its bytes do; `read` raises ObjectMissing, StoreUnavailable."""

    mime: str
    inline: bool
    name: str
    bytes: int
    tag: str
    read: ReadRange


def preview_type(mime: str) -> tuple[str, bool]:
    """The type to say, and whether a browser may show it by itself instead of saving it."""
    if mime in INLINE_TYPES:
        return mime, True
    return (mime if mime in DOWNLOAD_TYPES else OCTET_STREAM), False
