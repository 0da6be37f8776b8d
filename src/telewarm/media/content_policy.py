"""Content policy: how a browser may show a blob. Pure."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

# Types that browsers show or play without running anything of them. All others are downloads without a type.
INLINE_TYPES: Final = frozenset(
    {
        "image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/bmp",
        "video/mp4", "video/webm", "video/quicktime",
        "audio/mpeg", "audio/mp4", "audio/ogg", "audio/webm", "audio/aac", "audio/flac", "audio/wav",
    }
)  # fmt: skip
DOWNLOAD_TYPES: Final = frozenset({"application/pdf"})  # downloads with their type
OCTET_STREAM: Final = "application/octet-stream"

ReadRange: TypeAlias = Callable[[int, int], AsyncGenerator[bytes, None]]  # from the first byte to before the last


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewContent:
    """Content of a preview. `tag` changes with the bytes; `read` raises ObjectMissing, StoreUnavailable."""

    mime: str
    inline: bool
    name: str
    bytes: int
    tag: str
    read: ReadRange


def preview_type(mime: str) -> tuple[str, bool]:
    """Return the Content-Type, and whether the browser may show it inline."""
    if mime in INLINE_TYPES:
        return mime, True
    return (mime if mime in DOWNLOAD_TYPES else OCTET_STREAM), False
