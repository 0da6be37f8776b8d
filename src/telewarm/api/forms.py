"""A multipart form taken apart while it streams in: the file's bytes go out at once, the fields are kept."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from telewarm.api.answers import ApiError

FIELD_LARGEST = 4096  # bytes of a form field that is not the file
MOST_PARTS = 32
HEADERS_LARGEST = 16384  # bytes of a part's headers


class Form:
    """Feed it chunks; `fields`, `had_file` and `file_name` are whole once it has `ended`."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self.had_file = False
        self.ended = False
        self._pieces: list[bytes] = []
        self._parts = 0
        self._name = ""
        self._is_file = False
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._headers_bytes = 0
        self._value = bytearray()
        self._parser = _parser(boundary, self)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The pieces of the file in this chunk. Raises ApiError: 400, 413."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise ApiError(
                400, "BAD_REQUEST", "the body is not multipart as its Content-Type says; let your client make both"
            ) from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise ApiError(413, "TOO_LARGE", f"a form has at most {MOST_PARTS} parts here: `file`, `kind` and `name`")
        self._headers, self._headers_bytes = {}, 0
        self._value = bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._take(self._header[0], data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._take(self._header[1], data[start:end])

    def on_header_end(self) -> None:
        field, value = self._header
        self._headers[bytes(field).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._is_file = b"filename" in options or self._name == "file"
        if self._is_file:
            if self.had_file:
                raise ApiError(400, "BAD_REQUEST", "the form has more than one file; send one a request")
            self.had_file = True
            self.file_name = options.get(b"filename", b"").decode(errors="replace") or None

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_LARGEST:
            raise ApiError(413, "TOO_LARGE", f"a form field other than `file` has at most {FIELD_LARGEST} bytes")

    def on_part_end(self) -> None:
        if not self._is_file:
            self.fields[self._name] = self._value.decode(errors="replace")

    def on_end(self) -> None:
        self.ended = True

    def _take(self, into: bytearray, piece: bytes) -> None:
        self._headers_bytes += len(piece)
        if self._headers_bytes > HEADERS_LARGEST:
            raise ApiError(413, "TOO_LARGE", f"the headers of a form's part have at most {HEADERS_LARGEST} bytes")
        into += piece


def _parser(boundary: bytes, form: Form) -> MultipartParser:
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
        raise ApiError(400, "BAD_REQUEST", "the multipart boundary in the Content-Type is too long") from None
