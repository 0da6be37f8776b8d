"""One file of a request body, streamed: multipart, raw, or base64 in JSON; or a URL to fetch it from."""

from __future__ import annotations

import asyncio
import mmap
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
from fastapi import Request
from python_multipart.multipart import parse_options_header

from telewarm.api.body_memory import BodyMemoryBudget, bodies_of
from telewarm.api.error_responses import HttpError
from telewarm.api.multipart import SingleFileForm
from telewarm.api.schemas.bodies import SHOWN, unknown
from telewarm.models import Kind
from telewarm.probe import size_rule
from telewarm.storage.incoming_file import IncomingFile

MAX_JSON_BYTES = 96 << 20  # bytes of a JSON body, which is decoded in memory: 70 MB of file in base64
IN_MEMORY = 64 << 10  # bytes of a JSON body that come before it is kept on disk
AROUND = 1 << 20  # bytes of a body around the file
UNKNOWN = re.compile(r"contains unknown field `(.+)`", re.DOTALL)

Receive: TypeAlias = Callable[[], AbstractAsyncContextManager[IncomingFile]]


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadMetadata:
    """What the body says of the file beside its bytes."""

    kind: Kind | None = None
    name: str | None = None
    url: str | None = None  # where the file is to be fetched from: nothing of it came in the body


class JsonUpload(msgspec.Struct, forbid_unknown_fields=True):
    data_base64: bytes | None = None
    url: str | None = None
    kind: str | None = None
    name: str | None = None
    # What clients of the Node system say of the file; the bytes say it themselves.
    mime: object = None
    ext: object = None
    width: object = None
    height: object = None
    duration: object = None


async def read(
    request: Request, incoming: IncomingFile, *, largest: int, patience: float, receive: Receive
) -> UploadMetadata:
    """Write the file of this request into `incoming`. Raises HttpError: 400, 408, 413, 503.

    `largest`: bytes of the file. `patience`: seconds for which the body may stand still. `receive`: a place for what
    must wait on disk.
    """
    _check_length(request, largest)
    body = chunks(request, patience)
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type == b"multipart/form-data":
        return await _read_multipart(body, incoming, boundary_of(options), largest)
    if content_type == b"application/json":
        return await _read_json(body, incoming, largest, bodies_of(request), receive)
    async for chunk in body:
        await write(incoming, chunk, largest)
    check_not_empty(incoming)
    return UploadMetadata()


async def chunks(request: Request, patience: float) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(patience):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HttpError(408, "TOO_SLOW", f"nothing of the body came for {patience:g} s; send it again") from None
        yield chunk


async def _read_multipart(
    chunks: AsyncIterator[bytes], incoming: IncomingFile, boundary: bytes, largest: int
) -> UploadMetadata:
    form = SingleFileForm(boundary)
    async for chunk in chunks:
        for piece in form.feed(chunk):
            await write(incoming, piece, largest)
    if not form.ended:
        raise HttpError(400, "BAD_REQUEST", "the multipart body ends before its last boundary; send it again")
    if not form.had_file:
        raise HttpError(400, "BAD_REQUEST", "the form has no part `file`: send the file's bytes under that name")
    check_not_empty(incoming)
    return UploadMetadata(kind=parse_kind(form.fields.get("kind")), name=form.fields.get("name") or form.file_name)


def boundary_of(options: Mapping[bytes, bytes]) -> bytes:
    """Of a multipart Content-Type. Raises HttpError."""
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise HttpError(400, "BAD_REQUEST", "the Content-Type names no multipart boundary; let your client make it")
    return boundary


async def _read_json(
    chunks: AsyncIterator[bytes], incoming: IncomingFile, largest: int, bodies: BodyMemoryBudget, receive: Receive
) -> UploadMetadata:
    """What is small is held in memory, inside the budget of all bodies; the rest waits on disk for its turn."""
    most = min(MAX_JSON_BYTES, largest * 4 // 3 + AROUND)
    async with AsyncExitStack() as stack:
        held, begin, rest = stack.enter_context(bodies.share()), bytearray(), None
        async for chunk in chunks:
            if (rest.bytes if rest else len(begin)) + len(chunk) > most:
                raise HttpError(
                    413, "TOO_LARGE", f"a JSON body has at most {most} bytes; send the file as multipart or raw"
                )
            if rest is None and len(begin) + len(chunk) <= IN_MEMORY:
                held.take(len(chunk))
                begin += chunk
                continue
            if rest is None:
                rest = await stack.enter_async_context(receive())
                await rest.write(bytes(begin))
            await rest.write(chunk)
        if rest is None:
            return await _take(_decode(begin), incoming, largest)
        held.release()
        begin.clear()
        await stack.enter_async_context(bodies.decoding)
        return await _take(await asyncio.to_thread(_decode_file, rest.path), incoming, largest)


async def _take(upload: JsonUpload, incoming: IncomingFile, largest: int) -> UploadMetadata:
    if (upload.data_base64 is None) is (upload.url is None):
        raise HttpError(
            400, "BAD_REQUEST", "the JSON body needs the file in `data_base64`, or its `url`; one of the two"
        )
    if upload.data_base64 is None:
        return UploadMetadata(kind=parse_kind(upload.kind), name=upload.name, url=upload.url)
    await write(incoming, upload.data_base64, largest)
    check_not_empty(incoming)
    return UploadMetadata(kind=parse_kind(upload.kind), name=upload.name)


def _decode_file(path: Path) -> JsonUpload:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        return _decode(body)


def _decode(body: bytearray | mmap.mmap) -> JsonUpload:
    try:
        return msgspec.json.decode(body, type=JsonUpload)
    except msgspec.ValidationError as error:
        if found := UNKNOWN.search(str(error)):
            words = unknown("field", found[1], JsonUpload.__struct_fields__)
            raise HttpError(422, "BAD_REQUEST", f"{found[1][:SHOWN]}: {words}") from None
        raise HttpError(
            400, "BAD_REQUEST", f"the JSON body: {error}; it needs the file in `data_base64`, or its `url`"
        ) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise HttpError(
            400, "BAD_REQUEST", "the body is not JSON with the file's bytes in `data_base64`, or its `url`"
        ) from None


async def write(incoming: IncomingFile, chunk: bytes, largest: int) -> None:
    """Raises HttpError when it would have more than `largest` bytes then."""
    if incoming.bytes + len(chunk) > largest:
        raise _too_large(largest)
    if chunk:
        await incoming.write(chunk)


def parse_kind(text: str | None) -> Kind | None:
    try:
        return Kind(text) if text else None
    except ValueError:
        raise HttpError(422, "BAD_REQUEST", f"kind: must be one of {', '.join(Kind)}, or left out") from None


def _check_length(request: Request, largest: int) -> None:
    """Refuse what says itself that it is too large before reading it; base64 and form fields take some more."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > largest * 4 // 3 + AROUND:
        raise _too_large(largest)


def check_not_empty(incoming: IncomingFile) -> None:
    if incoming.bytes == 0:
        raise HttpError(400, "BAD_REQUEST", "the file is empty: send its bytes")


def _too_large(largest: int) -> HttpError:
    rule, cure = size_rule(largest)
    return HttpError(413, "TOO_LARGE", f"{rule}. {cure}")
