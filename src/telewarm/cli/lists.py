"""Recipient lists on the command line: import with a progress bar, export of results as CSV."""

from __future__ import annotations

import asyncio
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from telewarm.broadcasts.recipient_import import ImportResult
from telewarm.broadcasts.recipients import ListFormat
from telewarm.cli.common import pluralize
from telewarm.errors import UsageError
from telewarm.models import BroadcastId
from telewarm.runtime import Telewarm

STDIN = Path("-")
CHUNK_BYTES = 1 << 20  # bytes read at once
MAX_SHOWN_REJECTED = 5  # rejected lines that are told at once


async def load_file(
    telewarm: Telewarm,
    broadcast_id: BroadcastId,
    source: Path,
    list_format: ListFormat | None,
    column: str | None = None,
) -> ImportResult:
    """Import the chat ids of a file, or of standard input for `-`, and print the result."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with _open_list(source) as file, _list_progress(console, _size(file)) as bar:
        loaded = await telewarm.broadcasts.load(
            broadcast_id, _file_chunks(file, bar), format=list_format, column=column, on_rows=bar.set_rows
        )
    console.print(summary(loaded), markup=False)
    if loaded.guess is not None:
        console.print(f"This is a guess: {loaded.guess}", markup=False)
    _print_rejected(console, broadcast_id, loaded)
    return loaded


def summary(result: ImportResult) -> str:
    """Summarise an import: number, source, first ids."""
    duplicates = pluralize(result.duplicates, "duplicate", "duplicates")
    invalid = pluralize(result.rejected, "invalid line", "invalid lines")
    text = f"Loaded {pluralize(result.added, 'chat', 'chats')} ({duplicates}, {invalid})"
    if result.column is not None:
        text += f" from column '{result.column}'"
    if result.samples:
        more = ", …" if result.added > len(result.samples) else ""
        text += f"; first: {', '.join(map(str, result.samples))}{more}"
    return text


def check_readable(source: Path) -> None:
    """Raise UsageError for an unreadable list, before anything is created for it."""
    with _open_list(source):
        pass


async def write_csv(pieces: AsyncIterator[str], output: Path | None) -> None:
    """Write CSV to a file, or to standard output."""
    if output is None:
        async for piece in pieces:
            sys.stdout.write(piece)
        return
    with await asyncio.to_thread(output.open, "w", encoding="utf-8", newline="") as file:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)


class ListProgress:
    """Progress of an import. Silent without a task."""

    def __init__(self, progress: Progress | None, total: int | None) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task("", total=total, rows="")

    def advance(self, count: int) -> None:
        """Advance by a number of bytes."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)

    def set_rows(self, count: int) -> None:
        """Show the number of rows."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, rows=f"{count:,} rows")


@contextmanager
def _list_progress(console: Console, total: int | None) -> Iterator[ListProgress]:
    if not console.is_terminal:
        yield ListProgress(None, None)
        return
    columns = (
        TextColumn("chat ids"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield ListProgress(progress, total)


@contextmanager
def _open_list(source: Path) -> Iterator[BinaryIO]:
    """Open a list. Raises UsageError."""
    if source == STDIN:
        yield sys.stdin.buffer
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}; give a list of chat ids, one a line") from None
    with file:
        yield file


def _size(file: BinaryIO) -> int | None:
    """Return the size; None for a pipe."""
    try:
        found = Path(f"/dev/fd/{file.fileno()}").stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


async def _file_chunks(file: BinaryIO, bar: ListProgress) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(_read_available, file):
        bar.advance(len(chunk))
        yield chunk


def _read_available(file: BinaryIO) -> bytes:
    """Read what is available: a pipe is not waited for until a whole chunk has come."""
    read_some: Callable[[int], bytes] = getattr(file, "read1", file.read)
    return read_some(CHUNK_BYTES)


def _print_rejected(console: Console, broadcast_id: BroadcastId, result: ImportResult) -> None:
    for one in result.first_rejected[:MAX_SHOWN_REJECTED]:
        console.print(f"  line {one.line}: {one.reason}: {one.excerpt}", markup=False)
    if result.rejected > MAX_SHOWN_REJECTED:
        console.print(f"  all of them: telewarm broadcast rejected {broadcast_id}")
