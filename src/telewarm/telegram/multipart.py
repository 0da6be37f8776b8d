"""Encoder of multipart/form-data with an exact length, in few large pieces."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from telewarm.telegram.files import FileUpload

UNSAFE_CHARACTERS: Mapping[int, str] = dict.fromkeys((*range(32), 127, *map(ord, '"\\/')), "_")
UNSAFE_MIME_CHARACTERS = {code: to for code, to in UNSAFE_CHARACTERS.items() if code != ord("/")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Multipart:
    """An encoded form. `pieces`: bytes and uploads; `tail`: closes the form, which has no effect without it."""

    content_type: str
    length: int
    pieces: tuple[bytes | FileUpload, ...]
    tail: bytes


def encode(fields: Mapping[str, object], uploads: Mapping[str, FileUpload]) -> Multipart:
    """Encode `fields`, each upload under its name and its thumbnail under `thumbnail_name(name)`."""
    boundary = secrets.token_hex(16)
    form = MultipartEncoder(boundary)
    for name, value in fields.items():
        form.field(name, value)
    for name, upload in uploads.items():
        if upload.thumbnail is not None:
            form.head(thumbnail_name(name), filename="thumbnail.jpg", mime="image/jpeg")
            form.content(upload.thumbnail)
    for name, upload in uploads.items():
        form.head(name, filename=upload.filename, mime=upload.mime)
        form.upload(upload)
    return form.close()


def thumbnail_name(name: str) -> str:
    """Return the name of a thumbnail's part."""
    return f"{name}_thumbnail"


def form_value(value: object) -> bytes:
    """Encode a parameter for a form: text unchanged, other values as JSON."""
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


class MultipartEncoder:
    """Builds a form part by part."""

    def __init__(self, boundary: str) -> None:
        self._boundary = boundary
        self._buffer = bytearray()
        self._pieces: list[bytes | FileUpload] = []
        self._length = 0

    def field(self, name: str, value: object) -> None:
        """Add a field."""
        self._buffer += f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        self.content(form_value(value))

    def head(self, name: str, *, filename: str, mime: str) -> None:
        """Add the headers of a file."""
        self._buffer += (
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"; '
            f'filename="{header_parameter(filename)}"\r\n'
            f"Content-Type: {header_parameter(mime, UNSAFE_MIME_CHARACTERS)}\r\n\r\n"
        ).encode()

    def content(self, value: bytes) -> None:
        """Add the content of a part."""
        self._buffer += value
        self._buffer += b"\r\n"

    def upload(self, upload: FileUpload) -> None:
        """Add the content of an upload."""
        self._flush()
        self._pieces.append(upload)
        self._length += upload.bytes
        self._buffer += b"\r\n"

    def close(self) -> Multipart:
        """Return the form."""
        self._buffer += f"--{self._boundary}--\r\n".encode()
        return Multipart(
            content_type=f"multipart/form-data; boundary={self._boundary}",
            length=self._length + len(self._buffer),
            pieces=tuple(self._pieces),
            tail=bytes(self._buffer),
        )

    def _flush(self) -> None:
        self._pieces.append(bytes(self._buffer))
        self._length += len(self._buffer)
        self._buffer.clear()


def header_parameter(value: str, unsafe: Mapping[int, str] = UNSAFE_CHARACTERS) -> str:
    """Encode a header parameter so that no parser, however simple, can misread it."""
    return value.translate(unsafe).encode(errors="replace").decode()
