"""Streaming multipart reader: file bytes are passed on at once, fields are collected.

File names are read as clients write them: plain, by RFC 5987 (`filename*`) or RFC 2047.
"""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Final

from aiohttp import content_disposition_filename, parse_content_disposition
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from telewarm.api.error_responses import HttpError
from telewarm.api.schemas.bodies import MAX_NAME_CHARACTERS, unknown_name_message

EXTENDED_FILENAME_PATTERN: Final = re.compile(rb";\s*filename\*(?:\d+\*?)?\s*=", re.IGNORECASE)
ENCODED_WORD_PATTERN: Final = re.compile(r"=\?[\w.*-]+\?[bq]\?[^?]*\?=", re.IGNORECASE)
MAX_FIELD_BYTES = 4096  # bytes of a form field that is not the file
MAX_PARTS = 32
MAX_HEADER_BYTES = 16384  # bytes of a part's headers


class PartHeaders:
    """The headers of one part of a form, as they come in pieces."""

    def __init__(self) -> None:
        self._field, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._bytes = 0

    def add_to_field(self, piece: bytes) -> None:
        """Receive a piece of a header's name."""
        self._count(piece)
        self._field += piece

    def add_to_value(self, piece: bytes) -> None:
        """Receive a piece of a header's value."""
        self._count(piece)
        self._value += piece

    def end_header(self) -> None:
        """End a header."""
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    @property
    def disposition(self) -> bytes:
        """The value of Content-Disposition."""
        return self._headers.get(b"content-disposition", b"")

    def _count(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._bytes > MAX_HEADER_BYTES:
            raise HttpError(413, "TOO_LARGE", f"the headers of a form's part have at most {MAX_HEADER_BYTES} bytes")


class MultipartReader(ABC):
    """Parser that is fed with chunks and reports a form's parts.

    `field_names`: values of the parts that are not files.
    """

    def __init__(self, boundary: bytes, *, max_parts: int, allowed_text: str, field_names: frozenset[str]) -> None:
        """`max_parts`: number of parts. `allowed_text`: what the form may have, in words.

        `field_names`: names of the parts that are not files.
        """
        self._field_names = field_names
        self._fields_are_unique = True  # each field
        self.fields: dict[str, str] = {}
        self.ended = False
        self._max_parts = max_parts
        self._allowed_text = allowed_text
        self._part_count = 0
        self._name = ""
        self._is_file = False
        self._headers = PartHeaders()
        self._value = bytearray()
        self._parser = _create_parser(boundary, self)

    @abstractmethod
    def on_file_start(self, field: str, name: str | None) -> None:
        """Handle the start of a file."""

    @abstractmethod
    def on_file_data(self, piece: bytes) -> None:
        """Handle bytes of a file."""

    def on_file_end(self) -> None:  # noqa: B027 - who takes one file alone need not know
        """Handle the end of a file."""

    def is_file(self, field: str, *, has_file_name: bool) -> bool:
        """Return whether a part is a file. `has_file_name`: it has a file name."""
        return has_file_name or field == "file"

    def write(self, chunk: bytes) -> None:
        """Parse a chunk. Raises HttpError: 400, 413."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise HttpError(
                400, "BAD_REQUEST", "the body is not multipart as its Content-Type says; let your client make both"
            ) from None

    def on_part_begin(self) -> None:
        """Begin a part."""
        self._part_count += 1
        if self._part_count > self._max_parts:
            raise HttpError(413, "TOO_LARGE", f"a form has at most {self._max_parts} parts here: {self._allowed_text}")
        self._headers = PartHeaders()
        self._value = bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        """Receive a part of a header's name."""
        self._headers.add_to_field(data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        """Receive a part of a header's value."""
        self._headers.add_to_value(data[start:end])

    def on_header_end(self) -> None:
        """End a header."""
        self._headers.end_header()

    def on_headers_finished(self) -> None:
        """End the headers of a part."""
        disposition = self._headers.disposition
        _, options = parse_options_header(disposition)
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._is_file = self.is_file(self._name, has_file_name=has_file_name(disposition, options))
        if self._is_file:
            self.on_file_start(self._name, file_name(disposition, options))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Receive a part's bytes."""
        if self._is_file:
            self.on_file_data(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise HttpError(413, "TOO_LARGE", f"a form field other than a file has at most {MAX_FIELD_BYTES} bytes")

    def on_part_end(self) -> None:
        """End a part."""
        if self._is_file:
            self.on_file_end()
        elif self._name not in self._field_names:
            raise HttpError(
                422,
                "BAD_REQUEST",
                f"{self._name[:MAX_NAME_CHARACTERS]}: {unknown_name_message('field', self._name, self._field_names)}",
            )
        elif self._fields_are_unique and self._name in self.fields:
            raise HttpError(422, "BAD_REQUEST", f"{self._name}: the form has it twice: give it once")
        else:
            self.fields[self._name] = self._value.decode(errors="replace")

    def on_end(self) -> None:
        """End the form."""
        self.ended = True


class SingleFileForm(MultipartReader):
    """A form with one file; `fields`, `had_file` and `file_name` are complete once it has `ended`."""

    def __init__(self, boundary: bytes) -> None:
        self.file_name: str | None = None
        self.had_file = False
        self._file_chunks: list[bytes] = []
        super().__init__(
            boundary,
            max_parts=MAX_PARTS,
            allowed_text="`file`, `kind` and `name`",
            field_names=frozenset({"kind", "name"}),
        )

    def feed(self, chunk: bytes) -> list[bytes]:
        """Parse a chunk. Returns the file's bytes in it. Raises HttpError: 400, 413."""
        self.write(chunk)
        pieces, self._file_chunks = self._file_chunks, []
        return pieces

    def on_file_start(self, field: str, name: str | None) -> None:  # noqa: ARG002 - whatever its field is called
        """Note the file; a second one is refused."""
        if self.had_file:
            raise HttpError(
                400, "BAD_REQUEST", "the form has more than one file; send one a request, or several to …/media/batch"
            )
        self.had_file, self.file_name = True, name

    def on_file_data(self, piece: bytes) -> None:
        """Collect bytes of the file."""
        self._file_chunks.append(piece)


@dataclass(frozen=True, slots=True)
class FileStart:
    """Start of a file. `kind`: of the files, by the fields so far."""

    name: str | None
    kind: str | None


@dataclass(frozen=True, slots=True)
class FileEnd:
    """End of a file."""


class MultiFileForm(MultipartReader):
    """A form with many files."""

    def __init__(self, boundary: bytes, *, max_files: int) -> None:
        self._events: list[FileStart | FileEnd | bytes] = []
        super().__init__(
            boundary,
            max_parts=max_files + MAX_PARTS,
            allowed_text=f"{max_files} files, and `kind`",
            field_names=frozenset({"kind"}),
        )
        self._fields_are_unique = False  # a kind is that of the files behind it

    def feed(self, chunk: bytes) -> Iterator[FileStart | FileEnd | bytes]:
        """Parse a chunk. Yields its content in order, and what precedes an error before its HttpError (400, 413)."""
        mistake = None
        try:
            self.write(chunk)
        except HttpError as error:
            mistake = error
        events, self._events = self._events, []
        yield from events
        if mistake is not None:
            raise mistake

    def is_file(self, field: str, *, has_file_name: bool) -> bool:  # noqa: ARG002 - whatever it is called
        """Return whether a part is a file."""
        return has_file_name

    def on_file_start(self, field: str, name: str | None) -> None:  # noqa: ARG002 - whatever its field is called
        """Note the start of a file."""
        self._events.append(FileStart(name, self.fields.get("kind")))

    def on_file_data(self, piece: bytes) -> None:
        """Collect bytes of a file."""
        self._events.append(piece)

    def on_file_end(self) -> None:
        """Note the end of a file."""
        self._events.append(FileEnd())


def _create_parser(boundary: bytes, form: MultipartReader) -> MultipartParser:
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": form.on_part_begin,
                "on_header_field": form.on_header_field,
                "on_header_value": form.on_header_value,
                "on_header_end": form.on_header_end,
                "on_headers_finished": form.on_headers_finished,
                "on_part_data": form.on_part_data,
                "on_part_end": form.on_part_end,
                "on_end": form.on_end,
            },
        )
    except FormParserError:
        raise HttpError(400, "BAD_REQUEST", "the multipart boundary in the Content-Type is too long") from None


def has_file_name(disposition: bytes, options: Mapping[bytes, bytes]) -> bool:
    """Return whether a part has a file name. `options`: of the form's parser, which leaves out RFC 5987 values."""
    return b"filename" in options or EXTENDED_FILENAME_PATTERN.search(disposition) is not None


def file_name(disposition: bytes, options: Mapping[bytes, bytes]) -> str | None:
    """Return the client's name of the file, decoded if possible."""
    said = options.get(b"filename", b"").decode(errors="replace")
    if EXTENDED_FILENAME_PATTERN.search(disposition) is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that are damaged: then the plain name must do
            _, fields = parse_content_disposition(disposition.decode(errors="replace"))
            said = content_disposition_filename(fields) or said
    return _decode_words(said) or None


def _decode_words(text: str) -> str:
    if ENCODED_WORD_PATTERN.search(text) is None:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return text
