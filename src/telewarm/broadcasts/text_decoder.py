"""Decoder of a list's bytes into lines. Binary files are refused with the name of their format."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator

from telewarm.broadcasts.rows import MAX_CELL_CHARACTERS
from telewarm.errors import UsageError

HEAD_BYTES = 128  # bytes that identify a file format

SAVE_AS_CSV = "save it as CSV (UTF-8) and load that"
UNPACK = "unpack it and load the list inside"
SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls)", SAVE_AS_CSV),
    (b"%PDF-", "a PDF document", "export the chat ids as CSV"),
    (b"\x1f\x8b", "compressed with gzip", UNPACK),
    (b"BZh", "compressed with bzip2", UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"SQLite format 3\x00", "an SQLite database", "export the column with the chat ids as CSV"),
    (b"PAR1", "a Parquet file", "export it as CSV"),
    (b"PGDMP", "a PostgreSQL dump", "export the column with the chat ids as CSV: COPY (SELECT …) TO STDOUT"),
    (b"\x89PNG", "a picture", "load a list of chat ids"),
    (b"\xff\xd8\xff", "a picture", "load a list of chat ids"),
    (b"{\\rtf", "a rich text document (.rtf)", "save it as plain text"),
)
ZIP = b"PK\x03\x04"
MARKUP_PATTERN = re.compile(rb"<(?:!doctype|html|table|\?xml|head|body)", re.IGNORECASE)
# Longest first: the byte order mark of UTF-32 begins with the one of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class TextDecoder:
    """Decodes pieces of any size. Line ends become line feeds: CR, CR LF and LF."""

    def __init__(self, head: bytes) -> None:
        """`head`: the beginning of the list, at least `HEAD_BYTES` unless it is shorter. Raises UsageError."""
        decoder = codecs.getincrementaldecoder(encoding_of(head))("replace")
        self._decode = io.IncrementalNewlineDecoder(decoder, translate=True).decode

    def more(self, data: bytes) -> str:
        """Decode a piece."""
        return self._decode(data)

    def end(self) -> str:
        """Decode what is left."""
        return self._decode(b"", final=True)


def encoding_of(head: bytes) -> str:
    """Detect the encoding. Raises UsageError for what is not text."""
    for begin, name, cure in SIGNATURES:
        if head.startswith(begin):
            raise UsageError(f"this is {name}, not a list of chat ids: {cure}")
    if head.startswith(ZIP):
        raise UsageError(_zipped(head))
    if MARKUP_PATTERN.match(head.lstrip().removeprefix(codecs.BOM_UTF8)):
        raise UsageError(f"this is a page of HTML or XML, not a list of chat ids: {SAVE_AS_CSV}")
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    if b"\x00" not in head:
        return "utf-8"
    even, odd = head[0 : len(head) & ~1 : 2], head[1::2]
    if len(head) > 1 and not any(odd) and all(even):
        return "utf-16-le"
    if len(head) > 1 and not any(even) and all(odd):
        return "utf-16-be"
    raise UsageError("this is a binary file, not a list of chat ids: save the list as CSV, NDJSON or JSON")


def _zipped(head: bytes) -> str:
    """Name a ZIP archive; workbooks are ZIP archives, which the first bytes do not always tell."""
    if b"opendocument" in head:
        return f"this is an OpenDocument file, not a list of chat ids: {SAVE_AS_CSV}"
    if any(mark in head for mark in (b"[Content_Types]", b"_rels", b"xl/", b"docProps", b"mimetype")):
        return f"this is an Excel workbook (.xlsx), not a list of chat ids: {SAVE_AS_CSV}"
    return f"this is an Excel workbook (.xlsx) or another ZIP archive: {SAVE_AS_CSV}, or unpack it"


class LineSplitter:
    """Splits text into lines with their line feeds.

    Of a line above the maximum length, one piece beyond that length is yielded, and the rest is skipped.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._skipping = False

    def more(self, text: str) -> Iterator[str]:
        """Yield the complete lines of a piece."""
        *whole, rest = text.split("\n")
        for line in whole:
            yield from self._add(line, ended=True)
        yield from self._add(rest, ended=False)

    def end(self) -> Iterator[str]:
        """Yield the last line, which may lack its line feed."""
        if self._rest:
            yield self._rest + "\n"
            self._rest = ""

    @property
    def rest(self) -> str:
        """Return the incomplete last line."""
        return self._rest

    def _add(self, part: str, *, ended: bool) -> Iterator[str]:
        if self._skipping:
            self._skipping = not ended
            return
        self._rest += part
        if ended or len(self._rest) > MAX_CELL_CHARACTERS:
            self._skipping = not ended
            line, self._rest = self._rest, ""
            yield line + "\n"
