"""Import of files, folders and URLs into a library: concurrent, with a result for each and a progress bar."""

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
from telewarm.cures import Interface
from telewarm.errors import DecoderFailed, FetchError, MediaError, TelewarmError, UsageError
from telewarm.logs import redact
from telewarm.media.ingest import IngestResult
from telewarm.media.names import name_of
from telewarm.models import Kind
from telewarm.runtime import Telewarm

MAX_CONCURRENT_IMPORTS = (
    4  # files on their way in: while one is read, another is decoded, and a third waits for the store
)
URL_SCHEMES = ("http://", "https://")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportSource:
    """A file on disk, or a URL. `bytes`: of a file."""

    argument: str
    path: Path | None
    bytes: int

    @property
    def display_name(self) -> str:
        """Name for display: of a URL only a part, since it may contain a password or a signature."""
        if self.path is None:
            return name_of(Path(urlsplit(self.argument).path).name) or "(URL)"
        return self.argument.encode(errors="replace").decode()  # a path may hold bytes that are no UTF-8


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOutcome:
    """Outcome of a source: `result`, or the `error` for which it was refused."""

    source: ImportSource
    result: IngestResult | None = None
    error: TelewarmError | None = None


def import_sources(arguments: Sequence[str]) -> list[ImportSource]:
    """Find the sources, in folders without hidden files. Raises typer.BadParameter before anything is added."""
    found = [source for one in arguments for source in _sources_of_argument(one)]
    if not found:
        raise typer.BadParameter("No files found", param_hint="FILE")
    return found


def _sources_of_argument(argument: str) -> Iterator[ImportSource]:
    if argument.lower().startswith(URL_SCHEMES):
        yield ImportSource(argument=argument, path=None, bytes=0)
        return
    path = Path(argument)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except PermissionError as error:
        raise _unreadable_error(error) from None
    if is_folder:
        yield from _files_below(path)
    elif exists:
        yield _file_source(path)
    else:
        raise typer.BadParameter(f"{argument}: no such file, and not a URL", param_hint="FILE")


def _files_below(folder: Path) -> Iterator[ImportSource]:
    """Yield the files in a folder. Raises typer.BadParameter for an unreadable folder, whose files would be missed."""

    def refuse(error: OSError) -> NoReturn:
        raise _unreadable_error(error)

    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    yield from (_file_source(below) for below in sorted(found) if below.is_file())


def _unreadable_error(error: OSError) -> typer.BadParameter:
    return typer.BadParameter(f"Cannot read {error.filename}: {error.strerror}", param_hint="FILE")


def _file_source(path: Path) -> ImportSource:
    return ImportSource(argument=str(path), path=path, bytes=path.stat().st_size)


async def import_all(
    telewarm: Telewarm,
    session: BotSession,
    sources: Sequence[ImportSource],
    kind: Kind | None,
    on_read: Callable[[int], None],
) -> AsyncGenerator[ImportOutcome, None]:
    """Import the sources in order. Raises errors that affect all: a lost store or database, a deleted bot."""
    under_way: deque[asyncio.Task[ImportOutcome]] = deque()
    try:
        for source in sources:
            if len(under_way) == MAX_CONCURRENT_IMPORTS:
                yield await under_way.popleft()
            under_way.append(
                asyncio.create_task(_import_one(telewarm, session, source, kind, on_read), name="add a file")
            )
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _import_one(
    telewarm: Telewarm, session: BotSession, source: ImportSource, kind: Kind | None, on_read: Callable[[int], None]
) -> ImportOutcome:
    library, bot, path = telewarm.library, session.bot, source.path
    try:
        if path is None:
            added = await library.add_url(bot, source.argument, kind=kind)
        else:
            added = await library.add_file(bot, path, kind=kind, name=name_of(path.name), on_read=on_read)
    except (MediaError, DecoderFailed, FetchError) as error:
        return ImportOutcome(source=source, error=error)
    except OSError as error:
        if path is None or error.filename != str(path):
            raise
        return ImportOutcome(source=source, error=UsageError(f"the file cannot be read: {error.strerror}"))
    return ImportOutcome(source=source, result=added)


class ImportProgress:
    """Progress bar, silent without a terminal."""

    def __init__(self, progress: Progress, sources: Sequence[ImportSource]) -> None:
        self._progress = progress
        self._count = len(sources)
        self._done = 0
        self._task = progress.add_task("", total=sum(one.bytes for one in sources) or None, files=self._file_count_text)

    @property
    def _file_count_text(self) -> str:
        return f"{self._done:,} of {self._count:,}"

    def advance(self, count: int) -> None:
        """Advance by a number of bytes."""
        self._progress.advance(self._task, count)

    def finish_file(self) -> None:
        """Count a finished file."""
        self._done += 1
        self._progress.update(self._task, files=self._file_count_text)

    def print_line(self, text: str) -> None:
        """Print a line: above the bar on a terminal, unchanged into a pipe or a file."""
        if sys.stdout.isatty():
            self._progress.console.print(text, markup=False, soft_wrap=True)
        else:
            typer.echo(text)


@contextmanager
def import_progress(sources: Sequence[ImportSource]) -> Iterator[ImportProgress]:
    """Show a progress bar while the block runs."""
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


def print_outcome(outcome: ImportOutcome, print_line: Callable[[str], None] | None) -> None:
    """Print an outcome. `print_line`: for successes; refusals go to standard error."""
    if outcome.error is not None:
        echo_err(
            f"{outcome.source.display_name}: {outcome.error.code} {redact(outcome.error.message_for(Interface.CLI))}"
        )
    elif outcome.result is not None and print_line is not None:
        item = outcome.result.item
        note = outcome.result.note or ""
        known = [] if outcome.result.created or "already there" in note else ["already there"]
        notes = "; ".join([*known, *([note] if note else [])])
        print_line("\t".join([str(item.id), item.kind, outcome.source.display_name, *([notes] if notes else [])]))


def describe(outcome: ImportOutcome) -> dict[str, object]:
    """Return an outcome as JSON."""
    fields: dict[str, object] = {"file": outcome.source.display_name, "ok": outcome.result is not None}
    if outcome.result is not None:
        return {**fields, "created": outcome.result.created, **describe_added(outcome.result)}
    assert outcome.error is not None  # noqa: S101 - one of the two
    return {**fields, **error_body(outcome.error, Interface.CLI)}


def print_summary(outcomes: Sequence[ImportOutcome], failed: int, *, work: bool) -> None:
    """Print how many sources were added, and what to do next."""
    new = sum(one.result is not None and one.result.created for one in outcomes)
    there = len(outcomes) - new - failed
    refused = f" {failed:,} refused." if failed else ""
    if not new and there:
        known = "it was already there" if there == 1 else f"all {there:,} were already there"
        echo_err(f"Nothing new: {known}.{refused}")
        return
    known = f", {there:,} already there" if there else ""
    hint = "" if work or not new else " To upload them now, run telewarm serve or use --work."
    echo_err(f"{new:,} added and queued{known}.{refused}{hint}")
