"""Request bodies: conversion of each content type to parameters and files (facts 4.2)."""

from __future__ import annotations

import re
import zlib
from typing import Protocol
from urllib.parse import parse_qsl

import msgspec

from telewarm.sandbox.errors import ApiError
from telewarm.sandbox.multipart import Malformed, Multipart, Part, Sink, boundary_of
from telewarm.sandbox.uploads import MAX_PARAMETERS, Form, too_large

INFLATE_STEP = 64 * 1024

_json = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)
_MEMBER = re.compile(r'[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9.eE+-]+|true|false|null)\s*(?=[,}])')


class Body(Protocol):
    """Receives a request body as it streams in."""

    def feed(self, data: bytes) -> None:
        """Receive a piece."""
        ...

    def finish(self) -> None:
        """End the body."""
        ...


class NoBody:
    """A body that nobody needs."""

    def feed(self, data: bytes) -> None:
        """Drop the bytes."""

    def finish(self) -> None:
        """Do nothing."""


class SmallBody:
    """JSON or a URL-encoded form, held in memory, at most 1 MiB."""

    def __init__(self, form: Form, *, json: bool) -> None:
        self._form = form
        self._json = json
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Receive a piece."""
        self._data += data
        if len(self._data) > MAX_PARAMETERS:
            raise too_large()

    def finish(self) -> None:
        """Decode the body."""
        data = bytes(self._data)
        if self._json:
            self._form.raw = data
        for name, value in (json_params(data) if self._json else form_params(data)).items():
            self._form.params.setdefault(name, value)


class MultipartBody:
    """A multipart body."""

    def __init__(self, form: Form, boundary: bytes) -> None:
        self._form = form
        self._parser = Multipart(boundary, self._open)

    def feed(self, data: bytes) -> None:
        """Receive a piece."""
        self._parser.feed(data)

    def finish(self) -> None:
        """End the body."""
        if not self._parser.complete:
            raise Malformed("the last boundary is missing")

    def _open(self, part: Part) -> Sink:
        if part.filename is None:
            return self._form.text(part.name)
        return self._form.file(part.name, part.filename, part.content_type)


class FileBody:
    """Any other content type: the whole body is one file called `file`."""

    def __init__(self, form: Form, content_type: str) -> None:
        self._sink = form.file("file", "file", content_type)

    def feed(self, data: bytes) -> None:
        """Receive a piece."""
        self._sink.write(data)

    def finish(self) -> None:
        """End the body."""
        self._sink.close()


class Inflated:
    """A gzip or deflate body, unpacked in small steps, at most to `limit` bytes."""

    def __init__(self, inner: Body, limit: int) -> None:
        self._inner = inner
        self._left = limit
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def feed(self, data: bytes) -> None:
        """Unpack a piece."""
        try:
            while data:
                plain = self._inflate.decompress(data, INFLATE_STEP)
                self._pass_on(plain)
                data = self._inflate.unconsumed_tail
        except zlib.error:
            raise ApiError(400, "can't decompress the request") from None

    def finish(self) -> None:
        """End the body."""
        self._pass_on(self._inflate.flush())
        self._inner.finish()

    def _pass_on(self, plain: bytes) -> None:
        self._left -= len(plain)
        if self._left < 0:
            raise too_large()
        if plain:
            self._inner.feed(plain)


def body_for(headers: dict[bytes, bytes], form: Form, *, limit: int) -> Body:
    """Return the receiver for a request with these headers (names in lower case)."""
    inner = _plain_body(headers, form)
    return Inflated(inner, limit) if headers.get(b"content-encoding") in {b"gzip", b"deflate"} else inner


def _plain_body(headers: dict[bytes, bytes], form: Form) -> Body:
    given = headers.get(b"content-type", b"")
    kind = given.partition(b";")[0].strip().lower()
    if kind == b"application/json":
        return SmallBody(form, json=True)
    if kind == b"application/x-www-form-urlencoded":
        return SmallBody(form, json=False)
    if kind == b"multipart/form-data":
        return MultipartBody(form, boundary_of(given.decode("latin-1")))
    return FileBody(form, kind.decode("latin-1")) if kind else NoBody()


def form_params(data: bytes) -> dict[str, str]:
    """Decode a URL-encoded form."""
    params: dict[str, str] = {}
    for name, value in parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True):
        params.setdefault(name, value)
    return params


def json_params(data: bytes) -> dict[str, str]:
    """Decode JSON: strings decoded, other values as raw JSON; of a truncated body, what can be read."""
    if not data:
        return {}
    try:
        raw = _json.decode(data)
    except msgspec.DecodeError:
        return _salvage(data.decode("utf-8", "replace"))
    return {name: _value(bytes(value)) for name, value in raw.items()}


def _value(raw: bytes) -> str:
    return _string.decode(raw) if raw.startswith(b'"') else raw.decode()


def _salvage(text: str) -> dict[str, str]:
    params: dict[str, str] = {}
    at = 0
    while (member := _MEMBER.match(text, at)) is not None:
        at = member.end()
        params.setdefault(_value(member[1].encode()), _value(member[2].encode()))
    return params
