"""File names as Telegram shows them: safe, and with the extension that the bytes deserve. Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

from telewarm.model import Facts, Kind

LONGEST: Final = 200  # bytes of UTF-8, extension included; file systems take 255
GENERIC: Final = frozenset({"application/octet-stream", "text/plain", "application/zip", "application/gzip"})
FAMILIES: Final = (
    frozenset({"jpg", "jpeg", "jpe", "jfif"}),
    frozenset({"mp4", "m4v"}),
    frozenset({"m4a", "m4b"}),
    frozenset({"ogg", "oga", "opus"}),
    frozenset({"mov", "qt"}),
    frozenset({"tif", "tiff"}),
    frozenset({"heic", "heif"}),
    frozenset({"mpg", "mpeg", "vob"}),
    frozenset({"ts", "m2ts", "mts"}),
    frozenset({"asf", "wmv", "wma"}),
    frozenset({"doc", "xls", "ppt", "msi"}),
)
REPLACEABLE: Final = frozenset().union(*FAMILIES) | {
    "aac", "amr", "avi", "avif", "bin", "bmp", "dat", "docx", "flac", "flv", "gif", "mkv", "mp3", "pdf", "png", "pptx",
    "tgs", "tmp", "txt", "wav", "webm", "webp", "xlsx", "zip",
}  # fmt: skip


def filename_for(name: str | None, facts: Facts, kind: Kind) -> str:
    """A file name for the upload: `name` cleaned, else from the tags, else the kind; never without an extension.

    An extension that contradicts the bytes is replaced, except where the bytes say little (text, zip, unknown).
    """
    clean = _clean(name or "")
    if not clean and kind is Kind.AUDIO:
        tags = " - ".join(tag for tag in (facts.performer, facts.title) if tag)
        clean = _clean(tags.replace("/", "_").replace("\\", "_"))
        return _with_extension(clean or kind.value, facts.ext)
    stem, dot, suffix = clean.rpartition(".")
    if not dot or not stem:
        return _with_extension(clean or kind.value, facts.ext)
    if facts.mime in GENERIC and kind is Kind.DOCUMENT and suffix.isalnum():
        return _with_extension(stem, suffix)
    if suffix.lower() in _family(facts.ext):
        return _with_extension(stem, suffix)
    return _with_extension(stem if suffix.lower() in REPLACEABLE else clean, facts.ext)


def _family(ext: str) -> frozenset[str]:
    return next((family for family in FAMILIES if ext in family), frozenset({ext}))


def _with_extension(stem: str, ext: str) -> str:
    ext = ext[:16]
    room = LONGEST - len(ext.encode()) - 1
    return f"{stem.encode()[:room].decode(errors='ignore').rstrip(' .')}.{ext}"


def _clean(name: str) -> str:
    """The last path part without control characters, quotes, and dots or spaces around it."""
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    kept = "".join("_" if char in '<>:"|?*;%' else char for char in last if unicodedata.category(char)[0] != "C")
    return " ".join(kept.split()).strip(" .")
