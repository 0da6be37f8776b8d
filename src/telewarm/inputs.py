"""Arguments of the library's short methods: files and messages in their accepted forms, and the returned file ids."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Sequence
from os import PathLike
from pathlib import Path
from typing import Protocol, Self, TypeAlias, cast

from telewarm import coercion
from telewarm.errors import UsageError
from telewarm.media.ingest import IngestResult
from telewarm.media.library import MediaLibrary
from telewarm.models import Bot, FileId, Kind, MediaId, MediaItem, MessageSet, Part
from telewarm.sending.send_context import OnCold
from telewarm.storage.incoming_file import IncomingFile
from telewarm.telegram.parameters import SEND_METHODS

CHUNK_BYTES = 1 << 20  # read from a stream at once


class Readable(Protocol):
    """A binary file or stream; `read` may be a coroutine."""

    def read(self, size: int, /) -> bytes | Awaitable[bytes]:
        """Read up to `size` bytes."""
        ...


Bytes: TypeAlias = bytes | bytearray | memoryview
FileInput: TypeAlias = "str | PathLike[str] | Bytes | Readable | AsyncIterator[bytes]"
MessageInput: TypeAlias = "MessageSet | str | Part | MediaItem | Sequence[Part | MediaItem | int]"


class WarmFile(str):  # noqa: SLOT000 - it knows more than its text
    """A file id. `kind`: by Telegram's response; `method`: the Bot API method that sends it."""

    media_id: MediaId
    kind: Kind

    def __new__(cls, file_id: str, *, media_id: MediaId, kind: Kind) -> Self:
        """Create a file id with its kind."""
        made = super().__new__(cls, file_id)
        made.media_id, made.kind = media_id, kind
        return made

    @property
    def file_id(self) -> FileId:
        """The file id."""
        return FileId(str.__str__(self))

    @property
    def method(self) -> str:
        """The Bot API method that sends this kind."""
        return SEND_METHODS[self.kind]


def to_message_set(given: MessageInput) -> MessageSet:
    """Return the message set for a text, a media item or several. Raises UsageError."""
    if isinstance(given, MessageSet):
        return given
    if isinstance(given, str):
        return MessageSet(text=given)
    if isinstance(given, Part | MediaItem):
        return MessageSet(media=[given])
    several: object = given
    if isinstance(several, list | tuple):
        return MessageSet(media=several)
    raise UsageError(f"message must be a MessageSet, a text, or media items, not {coercion.describe_value(given)}")


async def add_any(
    library: MediaLibrary, bot: Bot, file: FileInput, *, kind: Kind | None, name: str | None
) -> IngestResult:
    """Add a file in any accepted form. Raises UsageError for others, and what adding raises."""
    kind = parse_kind(kind)
    coercion.text("name", name)
    if isinstance(file, str | PathLike):
        return await library.add_file(bot, Path(file), kind=kind, name=name)
    async with library.receive() as incoming:
        if isinstance(file, bytes | bytearray | memoryview):
            await library.write(incoming, bytes(file))
        elif hasattr(file, "read"):
            await _read(library, cast(Readable, file), incoming)
        elif hasattr(file, "__aiter__"):
            async for chunk in file:
                await library.write(incoming, _bytes(chunk))
        else:
            raise UsageError(
                f"file must be a path, bytes, or a binary file or stream, not {coercion.describe_value(file)}"
            )
        if incoming.bytes == 0:
            raise UsageError("file is empty")
        return await library.add(bot, incoming, kind=kind, name=name or _name(file))


async def _read(library: MediaLibrary, file: Readable, incoming: IncomingFile) -> None:
    if inspect.iscoroutinefunction(file.read):
        while chunk := _bytes(await file.read(CHUNK_BYTES)):
            await library.write(incoming, chunk)
        return
    while chunk := _bytes(await asyncio.to_thread(file.read, CHUNK_BYTES)):
        await library.write(incoming, chunk)


def _bytes(chunk: object) -> bytes:
    if isinstance(chunk, bytes | bytearray | memoryview):
        return bytes(chunk)
    raise UsageError(f"file gives {type(chunk).__name__} where bytes are due: open it in binary mode")


def _name(file: object) -> str | None:
    """Return the name of an open file, if it is a file name."""
    own = getattr(file, "name", None)
    return Path(own).name if isinstance(own, str) and not own.startswith("<") else None


def parse_kind(given: Kind | str | None) -> Kind | None:
    """Return the kind. Raises UsageError."""
    try:
        return None if given is None else Kind(given)
    except ValueError:
        raise UsageError(
            f"kind must be one of {', '.join(Kind)}, or None, not {coercion.describe_value(given)}"
        ) from None


def parse_on_cold(given: OnCold | str) -> OnCold:
    """Return what to do with cold media. Raises UsageError."""
    try:
        return OnCold(given)
    except ValueError:
        raise UsageError(f"on_cold must be one of {', '.join(OnCold)}, not {coercion.describe_value(given)}") from None


def to_path(given: object) -> Path:
    """Return the path of a file. Raises UsageError."""
    if isinstance(given, str | PathLike) and str(given):
        return Path(given)
    raise UsageError(f"file must be a path, not {coercion.describe_value(given)}")
