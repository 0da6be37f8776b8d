"""Import of files, folders and URLs into a library: some at once, each with its result, with a progress bar."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from telewarm.api.error_responses import error_body
from telewarm.api.routes.media import describe_added
from telewarm.bots.sessions import BotSession
from telewarm.cli.console import echo_err
from telewarm.errors import DecoderFailed, Face, FetchError, MediaError, TelewarmError, UsageError
from telewarm.logs import redact
from telewarm.media.ingest import IngestResult
from telewarm.media.names import name_of
from telewarm.models import Kind
from telewarm.runtime import Telewarm

MAX_CONCURRENT_IMPORTS = (
    4  # files on their way in: while one is read, another is decoded, and a third waits for the store
)
WEB = ("http://", "https://")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportSource:
    """A file on disk, or a URL. `bytes`: of a file."""

    given: str
    path: Path | None
    bytes: int

    @property
    def shown(self) -> str:
        """A URL may bear a password or a signature: never all of it."""
        if self.path is None:
            return name_of(Path(urlsplit(self.given).path).name) or "(URL)"
        return self.given.encode(errors="replace").decode()  # a path may hold bytes that are no UTF-8


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOutcome:
    """What became of a source: `added`, or the `error` for which it is not taken."""

    source: ImportSource
    added: IngestResult | None = None
    error: TelewarmError | None = None


def sources_of(given: Sequence[str]) -> list[ImportSource]:
    """Folders are looked through, without what is hidden. Raises typer.BadParameter, before anything is added."""
    found = [source for one in given for source in _of(one)]
    if not found:
        raise typer.BadParameter("No files found", param_hint="FILE")
    return found


def _of(given: str) -> Iterator[ImportSource]:
    if given.lower().startswith(WEB):
        yield ImportSource(given=given, path=None, bytes=0)
        return
    path = Path(given)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except PermissionError as error:
        raise _unreadable(error) from None
    if is_folder:
        yield from _below(path)
    elif exists:
        yield _file(path)
    else:
        raise typer.BadParameter(f"{given}: no such file, and not a URL", param_hint="FILE")


def _below(folder: Path) -> Iterator[ImportSource]:
    """Raises typer.BadParameter for a folder that cannot be looked into: what is in it would be missed."""

    def refuse(error: OSError) -> NoReturn:
        raise _unreadable(error)

    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    yield from (_file(below) for below in sorted(found) if below.is_file())


def _unreadable(error: OSError) -> typer.BadParameter:
    return typer.BadParameter(f"Cannot read {error.filename}: {error.strerror}", param_hint="FILE")


def _file(path: Path) -> ImportSource:
    return ImportSource(given=str(path), path=path, bytes=path.stat().st_size)


async def add_all(
    telewarm: Telewarm,
    live: BotSession,
    sources: Sequence[ImportSource],
    kind: Kind | None,
    on_read: Callable[[int], None],
) -> AsyncGenerator[ImportOutcome, None]:
    """In their order. Raises what would befall every other too: a store or a database that is away, a deleted bot."""
    under_way: deque[asyncio.Task[ImportOutcome]] = deque()
    try:
        for source in sources:
            if len(under_way) == MAX_CONCURRENT_IMPORTS:
                yield await under_way.popleft()
            under_way.append(asyncio.create_task(_add(telewarm, live, source, kind, on_read), name="add a file"))
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _add(
    telewarm: Telewarm, live: BotSession, source: ImportSource, kind: Kind | None, on_read: Callable[[int], None]
) -> ImportOutcome:
    library, bot, path = telewarm.library, live.bot, source.path
    try:
        if path is None:
            added = await library.add_url(bot, source.given, kind=kind)
        else:
            added = await library.add_file(bot, path, kind=kind, name=name_of(path.name), on_read=on_read)
    except (MediaError, DecoderFailed, FetchError) as error:
        return ImportOutcome(source=source, error=error)
    except OSError as error:
        if path is None or error.filename != str(path):
            raise
        return ImportOutcome(source=source, error=UsageError(f"the file cannot be read: {error.strerror}"))
    return ImportOutcome(source=source, added=added)


class ImportProgress:
    """Silent without a terminal."""

    def __init__(self, progress: Progress, sources: Sequence[ImportSource]) -> None:
        self._progress = progress
        self._count = len(sources)
        self._done = 0
        self._task = progress.add_task("", total=sum(one.bytes for one in sources) or None, files=self._files)

    @property
    def _files(self) -> str:
        return f"{self._done:,} of {self._count:,}"

    def read(self, count: int) -> None:
        self._progress.advance(self._task, count)

    def one_more(self) -> None:
        self._done += 1
        self._progress.update(self._task, files=self._files)

    def line(self, text: str) -> None:
        """On a terminal above the bar; into a pipe or a file as it is."""
        if sys.stdout.isatty():
            self._progress.console.print(text, markup=False, soft_wrap=True)
        else:
            typer.echo(text)


@contextmanager
def bar_of(sources: Sequence[ImportSource]) -> Iterator[ImportProgress]:
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.fields[files]}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,  # `Bar.line` knows where lines go
    ) as progress:
        yield ImportProgress(progress, sources)


def tell(outcome: ImportOutcome, line: Callable[[str], None] | None) -> None:
    """`line`: where a line goes for one that was added; a refusal is said."""
    if outcome.error is not None:
        echo_err(f"{outcome.source.shown}: {outcome.error.code} {redact(outcome.error.told(Face.CLI))}")
    elif outcome.added is not None and line is not None:
        item = outcome.added.item
        note = outcome.added.note or ""
        known = [] if outcome.added.created or "already there" in note else ["already there"]
        notes = "; ".join([*known, *([note] if note else [])])
        line("\t".join([str(item.id), item.kind, outcome.source.shown, *([notes] if notes else [])]))


def describe(outcome: ImportOutcome) -> dict[str, object]:
    """For programs."""
    told: dict[str, object] = {"file": outcome.source.shown, "ok": outcome.added is not None}
    if outcome.added is not None:
        return {**told, "created": outcome.added.created, **describe_added(outcome.added)}
    assert outcome.error is not None  # noqa: S101 - one of the two
    return {**told, **error_body(outcome.error, Face.CLI)}


def sum_up(outcomes: Sequence[ImportOutcome], refused: int, *, work: bool) -> None:
    new = sum(one.added is not None and one.added.created for one in outcomes)
    there = len(outcomes) - new - refused
    failed = f" {refused:,} refused." if refused else ""
    if not new and there:
        known = "it was already there" if there == 1 else f"all {there:,} were already there"
        echo_err(f"Nothing new: {known}.{failed}")
        return
    known = f", {there:,} already there" if there else ""
    hint = "" if work or not new else " To upload them now, run telewarm serve or use --work."
    echo_err(f"{new:,} added and queued{known}.{failed}{hint}")
