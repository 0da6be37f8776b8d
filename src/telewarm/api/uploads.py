"""One file out of a request body, streamed: multipart, raw, or base64 in JSON."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import msgspec
from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from telewarm.api.answers import ApiError
from telewarm.model import Kind
from telewarm.store import Incoming

JSON_LARGEST = 96 * 1024 * 1024  # bytes of a JSON body: 70 MB of file in base64
FIELD_LARGEST = 4096  # bytes of a form field that is not the file


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the body says of the file beside its bytes."""

    kind: Kind | None = None
    name: str | None = None


class JsonUpload(msgspec.Struct):
    data_base64: str
    kind: str | None = None
    name: str | None = None


async def read(request: Request, incoming: Incoming, *, largest: int) -> Asked:
    """Write the file of this request into `incoming`. Raises ApiError: 400, 413."""
    _check_length(request, largest)
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type == b"multipart/form-data":
        return await _read_multipart(request, incoming, options.get(b"boundary", b""), largest)
    if content_type == b"application/json":
        return await _read_json(request, incoming, largest)
    async for chunk in request.stream():
        await _write(incoming, chunk, largest)
    _check_not_empty(incoming)
    return Asked()


async def _read_multipart(request: Request, incoming: Incoming, boundary: bytes, largest: int) -> Asked:
    if not boundary:
        raise ApiError(400, "BAD_REQUEST", "the Content-Type names no multipart boundary")
    form = _Form(boundary)
    async for chunk in request.stream():
        for piece in form.feed(chunk):
            await _write(incoming, piece, largest)
    if not form.ended:
        raise ApiError(400, "BAD_REQUEST", "the multipart body ends before its last boundary; send it again")
    if not form.had_file:
        raise ApiError(400, "BAD_REQUEST", "the form has no part `file` with a file name")
    _check_not_empty(incoming)
    return Asked(kind=kind_of(form.fields.get("kind")), name=form.fields.get("name") or form.file_name)


async def _read_json(request: Request, incoming: Incoming, largest: int) -> Asked:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > JSON_LARGEST:
            raise ApiError(
                413, "TOO_LARGE", f"a JSON body has at most {JSON_LARGEST} bytes; send the file as multipart or raw"
            )
    try:
        upload = msgspec.json.decode(body, type=JsonUpload)
        data = base64.b64decode(upload.data_base64.encode(), validate=True)
    except msgspec.ValidationError as error:
        raise ApiError(400, "BAD_REQUEST", f"the JSON body: {error}") from None
    except (msgspec.DecodeError, binascii.Error, UnicodeError):
        raise ApiError(400, "BAD_REQUEST", "the body is not JSON with the file's bytes in `data_base64`") from None
    await _write(incoming, data, largest)
    _check_not_empty(incoming)
    return Asked(kind=kind_of(upload.kind), name=(upload.name or "")[:255] or None)


async def _write(incoming: Incoming, chunk: bytes, largest: int) -> None:
    if incoming.bytes + len(chunk) > largest:
        raise _too_large(largest)
    if chunk:
        await incoming.write(chunk)


def kind_of(text: str | None) -> Kind | None:
    try:
        return Kind(text) if text else None
    except ValueError:
        kinds = ", ".join(Kind)
        raise ApiError(400, "BAD_REQUEST", f"kind: {text[:40]!r} is none of {kinds}") from None


def _check_length(request: Request, largest: int) -> None:
    """Refuse what says itself that it is too large before reading it; base64 and form fields take some more."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > largest * 4 // 3 + 1024 * 1024:
        raise _too_large(largest)


def _check_not_empty(incoming: Incoming) -> None:
    if incoming.bytes == 0:
        raise ApiError(400, "BAD_REQUEST", "the file is empty")


def _too_large(largest: int) -> ApiError:
    return ApiError(413, "TOO_LARGE", f"a file has at most {largest} bytes here (TELEWARM_MAX_UPLOAD_BYTES)")


class _Form:
    """The parts of a multipart body as they come: the file's bytes go out at once, fields are kept."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self.had_file = False
        self.ended = False
        self._pieces: list[bytes] = []
        self._name = ""
        self._is_file = False
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> list[bytes]:
        """The pieces of the file in this chunk."""
        try:
            self._parser.write(chunk)
        except MultipartParseError:
            raise ApiError(400, "BAD_REQUEST", "the body is not multipart as its Content-Type says") from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._value = bytearray()

    def _on_header_end(self) -> None:
        field, value = self._header
        self._headers[bytes(field).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._is_file = b"filename" in options
        if self._is_file:
            if self.had_file:
                raise ApiError(400, "BAD_REQUEST", "the form has more than one file; send one a request")
            self.had_file = True
            self.file_name = options[b"filename"].decode(errors="replace")[:255] or None

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_LARGEST:
            raise ApiError(413, "TOO_LARGE", f"a form field has at most {FIELD_LARGEST} bytes")

    def _on_part_end(self) -> None:
        if not self._is_file:
            self.fields[self._name] = self._value.decode(errors="replace")

    def _on_end(self) -> None:
        self.ended = True
