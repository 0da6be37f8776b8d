"""File of a request body, streamed: multipart, raw, or base64 in JSON; or a URL to fetch."""

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

from telewarm.api.body_memory import BodyMemoryBudget, body_memory_of
from telewarm.api.error_responses import HttpError
from telewarm.api.multipart import SingleFileForm
from telewarm.api.schemas.bodies import MAX_NAME_CHARACTERS, unknown_name_message
from telewarm.models import Kind
from telewarm.probe import size_rule
from telewarm.storage.incoming_file import IncomingFile

MAX_JSON_BYTES = 96 << 20  # bytes of a JSON body, which is decoded in memory: 70 MB of file in base64
MAX_JSON_IN_MEMORY_BYTES = 64 << 10  # bytes of a JSON body that come before it is kept on disk
MAX_FORM_OVERHEAD_BYTES = 1 << 20  # bytes of a body around the file
UNKNOWN_FIELD_PATTERN = re.compile(r"contains unknown field `(.+)`", re.DOTALL)

ReceiveFile: TypeAlias = Callable[[], AbstractAsyncContextManager[IncomingFile]]


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadMetadata:
    """What the body says about the file besides its bytes."""

    kind: Kind | None = None
    name: str | None = None
    url: str | None = None  # where the file is to be fetched from: nothing of it came in the body


class JsonUpload(msgspec.Struct, forbid_unknown_fields=True):
    """JSON body of an upload."""

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


async def read_upload(
    request: Request, incoming: IncomingFile, *, max_bytes: int, stall_seconds: float, receive_file: ReceiveFile
) -> UploadMetadata:
    """Write the file of this request into `incoming`. Raises HttpError: 400, 408, 413, 503.

    `max_bytes`: of the file. `stall_seconds`: for which the body may stall. `receive_file`: receives a temporary file
    for what must wait on disk.
    """
    _check_length(request, max_bytes)
    body = body_chunks(request, stall_seconds)
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type == b"multipart/form-data":
        return await _read_multipart(body, incoming, boundary_of(options), max_bytes)
    if content_type == b"application/json":
        return await _read_json(body, incoming, max_bytes, body_memory_of(request), receive_file)
    async for chunk in body:
        await write_chunk(incoming, chunk, max_bytes)
    check_not_empty(incoming)
    return UploadMetadata()


async def body_chunks(request: Request, stall_seconds: float) -> AsyncIterator[bytes]:
    """Yield the body, with a timeout for stalls."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(stall_seconds):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HttpError(
                408, "TOO_SLOW", f"nothing of the body came for {stall_seconds:g} s; send it again"
            ) from None
        yield chunk


async def _read_multipart(
    chunks: AsyncIterator[bytes], incoming: IncomingFile, boundary: bytes, max_bytes: int
) -> UploadMetadata:
    form = SingleFileForm(boundary)
    async for chunk in chunks:
        for piece in form.feed(chunk):
            await write_chunk(incoming, piece, max_bytes)
    if not form.ended:
        raise HttpError(400, "BAD_REQUEST", "the multipart body ends before its last boundary; send it again")
    if not form.had_file:
        raise HttpError(400, "BAD_REQUEST", "the form has no part `file`: send the file's bytes under that name")
    check_not_empty(incoming)
    return UploadMetadata(kind=parse_kind(form.fields.get("kind")), name=form.fields.get("name") or form.file_name)


def boundary_of(options: Mapping[bytes, bytes]) -> bytes:
    """Return the boundary of a multipart Content-Type. Raises HttpError."""
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise HttpError(400, "BAD_REQUEST", "the Content-Type names no multipart boundary; let your client make it")
    return boundary


async def _read_json(
    chunks: AsyncIterator[bytes],
    incoming: IncomingFile,
    max_bytes: int,
    budget: BodyMemoryBudget,
    receive_file: ReceiveFile,
) -> UploadMetadata:
    """Read JSON: a small body within the memory budget, a large one on disk until it can be decoded."""
    most = min(MAX_JSON_BYTES, max_bytes * 4 // 3 + MAX_FORM_OVERHEAD_BYTES)
    async with AsyncExitStack() as stack:
        held, begin, rest = stack.enter_context(budget.for_request()), bytearray(), None
        async for chunk in chunks:
            if (rest.bytes if rest else len(begin)) + len(chunk) > most:
                raise HttpError(
                    413, "TOO_LARGE", f"a JSON body has at most {most} bytes; send the file as multipart or raw"
                )
            if rest is None and len(begin) + len(chunk) <= MAX_JSON_IN_MEMORY_BYTES:
                held.reserve(len(chunk))
                begin += chunk
                continue
            if rest is None:
                rest = await stack.enter_async_context(receive_file())
                await rest.write(bytes(begin))
            await rest.write(chunk)
        if rest is None:
            return await _write_decoded(_decode(begin), incoming, max_bytes)
        held.release()
        begin.clear()
        await stack.enter_async_context(budget.decode_slots)
        return await _write_decoded(await asyncio.to_thread(_decode_file, rest.path), incoming, max_bytes)


async def _write_decoded(upload: JsonUpload, incoming: IncomingFile, max_bytes: int) -> UploadMetadata:
    if (upload.data_base64 is None) is (upload.url is None):
        raise HttpError(
            400, "BAD_REQUEST", "the JSON body needs the file in `data_base64`, or its `url`; one of the two"
        )
    if upload.data_base64 is None:
        return UploadMetadata(kind=parse_kind(upload.kind), name=upload.name, url=upload.url)
    await write_chunk(incoming, upload.data_base64, max_bytes)
    check_not_empty(incoming)
    return UploadMetadata(kind=parse_kind(upload.kind), name=upload.name)


def _decode_file(path: Path) -> JsonUpload:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        return _decode(body)


def _decode(body: bytearray | mmap.mmap) -> JsonUpload:
    try:
        return msgspec.json.decode(body, type=JsonUpload)
    except msgspec.ValidationError as error:
        if found := UNKNOWN_FIELD_PATTERN.search(str(error)):
            words = unknown_name_message("field", found[1], JsonUpload.__struct_fields__)
            raise HttpError(422, "BAD_REQUEST", f"{found[1][:MAX_NAME_CHARACTERS]}: {words}") from None
        raise HttpError(
            400, "BAD_REQUEST", f"the JSON body: {error}; it needs the file in `data_base64`, or its `url`"
        ) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise HttpError(
            400, "BAD_REQUEST", "the body is not JSON with the file's bytes in `data_base64`, or its `url`"
        ) from None


async def write_chunk(incoming: IncomingFile, chunk: bytes, max_bytes: int) -> None:
    """Write bytes. Raises HttpError beyond `max_bytes`."""
    if incoming.bytes + len(chunk) > max_bytes:
        raise _too_large(max_bytes)
    if chunk:
        await incoming.write(chunk)


def parse_kind(text: str | None) -> Kind | None:
    """Parse a kind."""
    try:
        return Kind(text) if text else None
    except ValueError:
        raise HttpError(422, "BAD_REQUEST", f"kind: must be one of {', '.join(Kind)}, or left out") from None


def _check_length(request: Request, max_bytes: int) -> None:
    """Refuse a request whose length is too large, unread; base64 and form fields may add some."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes * 4 // 3 + MAX_FORM_OVERHEAD_BYTES:
        raise _too_large(max_bytes)


def check_not_empty(incoming: IncomingFile) -> None:
    """Raise HttpError for an empty file."""
    if incoming.bytes == 0:
        raise HttpError(400, "BAD_REQUEST", "the file is empty: send its bytes")


def _too_large(max_bytes: int) -> HttpError:
    rule, cure = size_rule(max_bytes)
    return HttpError(413, "TOO_LARGE", f"{rule}. {cure}")
