"""File names for uploads: safe, with the extension that fits the bytes. A document's name keeps its extension. Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

from telewarm.models import JOINERS, Kind, MediaMetadata, printable_name

MAX_NAME_BYTES: Final = 200  # of UTF-8, extension included; file systems take 255
MAX_EXTENSION_CHARACTERS: Final = 16  # characters of an extension
GENERIC: Final = frozenset({"application/octet-stream", "text/plain", "application/zip", "application/gzip"})
FAMILIES: Final = (
    frozenset({"jpg", "jpeg", "jpe", "jfif", "jif", "mpo", "jps"}),
    frozenset({"png", "apng"}),
    frozenset({"bmp", "dib"}),
    frozenset({"mp4", "m4v", "f4v", "3gp", "3gpp", "3g2", "mp4v", "mpg4"}),
    frozenset({"m4a", "m4b", "m4r", "m4p", "f4a", "f4b"}),
    frozenset({"mp3", "mpga", "mpeg3"}),
    frozenset({"ogg", "oga", "opus", "spx"}),
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


def filename_for(name: str | None, facts: MediaMetadata, kind: Kind) -> str:
    """Return a file name for the upload: `name` cleaned, else from the tags, else the kind.

    A document keeps the extension of its name: many formats share their first bytes (`.dng` and TIFF, `.xlsm` and
    `.xlsx`). For other kinds an extension that contradicts the bytes is replaced.
    """
    clean = _clean(name or "")
    if clean and kind is Kind.DOCUMENT:
        return _of_document(clean, facts)
    if not clean and kind is Kind.AUDIO:
        tags = " - ".join(tag for tag in (facts.performer, facts.title) if tag)
        clean = _clean(tags.replace("/", "_").replace("\\", "_"))
        return _with_extension(clean or kind.value, facts.ext)
    stem, dot, suffix = clean.rpartition(".")
    if not dot or not stem:
        return _with_extension(clean or kind.value, facts.ext)
    if suffix.lower() in _family(facts.ext):
        return _with_extension(stem, suffix)
    return _with_extension(stem if suffix.lower() in REPLACEABLE else clean, facts.ext)


def _of_document(clean: str, facts: MediaMetadata) -> str:
    """Return the name of a document: an extension is added only where there is none and the bytes define one."""
    stem, dot, suffix = clean.rpartition(".")
    if dot and stem and len(suffix) <= MAX_EXTENSION_CHARACTERS and not any(char.isspace() for char in suffix):
        return _with_extension(stem, suffix)
    if facts.mime in GENERIC:
        return _cut(clean, MAX_NAME_BYTES)
    return _with_extension(clean, facts.ext)


def _family(ext: str) -> frozenset[str]:
    return next((family for family in FAMILIES if ext in family), frozenset({ext}))


def _with_extension(stem: str, ext: str) -> str:
    ext = ext[:MAX_EXTENSION_CHARACTERS]
    return f"{_cut(stem, MAX_NAME_BYTES - len(ext.encode()) - 1)}.{ext}"


def _cut(text: str, room: int) -> str:
    """Truncate to a number of UTF-8 bytes."""
    encoded = text.encode()
    return text if len(encoded) <= room else encoded[:room].decode(errors="ignore").rstrip(" .")


def _clean(name: str) -> str:
    """Return the last path part without invisible characters, quotes, and surrounding dots or spaces."""
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    shown = (char for char in printable_name(last) if char in JOINERS or unicodedata.category(char)[0] != "C")
    kept = "".join("_" if char in '<>:"|?*;%' else char for char in shown)
    return " ".join(kept.split()).strip(" .")
