"""What commands share that open a Telewarm of their own: opening, tables, questions, spinners."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, TypeAlias, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from telewarm import logs
from telewarm.api.schemas.types import MAX_BIGINT
from telewarm.cli.console import wide_console
from telewarm.cli.env import read_settings
from telewarm.cli.run import run
from telewarm.database.transient import as_unavailable_error
from telewarm.errors import UsageError
from telewarm.models import MediaId
from telewarm.runtime import Telewarm

T = TypeVar("T")

BotArgument: TypeAlias = Annotated[str, typer.Argument(metavar="BOT", help="Your name for the bot (its slug).")]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]


def run_with_app(work: Callable[[Telewarm], Awaitable[T]], *, min_log_level: str = "warning") -> T:
    """Do it with a Telewarm that has no worker yet.

    The log keeps to warnings, or to what is `min_log_level` worth a line: bars and tables are what is told.
    """
    settings = read_settings()
    level = settings.telewarm_log_level
    logs.configure(log_format=settings.telewarm_log_format, level=min_log_level if level == "info" else level)

    async def main() -> T:
        async with Telewarm.open(settings, worker=False) as telewarm:
            return await work(telewarm)

    try:
        return run(main())
    except BrokenPipeError:  # whoever read what we print went away
        raise
    except Exception as error:
        if (ours := as_unavailable_error(error)) is None:
            raise
        raise ours from error


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """One thing: a fact a line; what there is none of is left out."""
    table = Table("", Column(overflow="fold"), box=None, show_header=False, pad_edge=False)
    for name, value in facts:
        if value is not None:
            table.add_row(name, Text(str(value)))
    wide_console().print(table)


def confirm(question: str, *, yes: bool) -> None:
    """Before what nothing brings back. Raises typer.Abort for a no, and UsageError where nobody is there to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("This cannot be undone. Confirm with --yes")
    typer.confirm(question, abort=True, err=True)


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """A spinner on a terminal, for what may take long."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(text)):
        yield


def parse_media_ids(ids: Sequence[int]) -> list[MediaId]:
    """Raises UsageError for what no media item can have."""
    for one in ids:
        if one < 1 or not is_bigint(one):
            raise UsageError(f"{one} is not the id of a media item. List them: telewarm media list BOT")
    return [MediaId(one) for one in dict.fromkeys(ids)]


def is_bigint(number: int) -> bool:
    """Whether it can be an id: of a chat it may be below zero."""
    return abs(number) <= MAX_BIGINT


def check_id(given: int) -> int:
    """For a callback: raises BadParameter for what no id can be."""
    if not is_bigint(given):
        raise typer.BadParameter(f"{given} is too large for an id")
    return given


def pluralize(count: int, singular: str, plural: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {singular if count == 1 else plural}"
