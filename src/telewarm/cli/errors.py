"""`telewarm errors`: every error code with its status, meaning and cure; also as the docs' page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from telewarm.cli.console import wide_console
from telewarm.error_catalog import BY_CODE, ERROR_DOCS, ErrorCategory, ErrorDoc, markdown
from telewarm.errors import UsageError


def errors(
    code: Annotated[str | None, typer.Argument(help="Only this one.", show_default=False)] = None,
    *,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/errors.md.")] = False,
) -> None:
    """Explain the error codes: what each means, the HTTP status it comes with, and the cure."""
    if as_markdown:
        typer.echo(markdown(), nl=False)
        return
    console = wide_console()
    for table in _tables(ERROR_DOCS if code is None else (_find_codes(code),)):
        console.print(table)


def _find_codes(code: str) -> ErrorDoc:
    known = BY_CODE.get(code.upper())
    if known is None:
        raise UsageError(f"there is no error code {code!r}: `telewarm errors` shows all of them")
    return known


def _tables(chosen: tuple[ErrorDoc, ...]) -> Iterator[Table]:
    for where in ErrorCategory:
        members = [known for known in chosen if known.where is where]
        if not members:
            continue
        table = Table(title=where.value, title_justify="left", title_style="bold", expand=True)
        table.add_column("code", style="cyan", overflow="fold", min_width=20)
        table.add_column("status")
        table.add_column("what it means", ratio=1)
        table.add_column("cure", ratio=1)
        for known in members:
            statuses = ", ".join(map(str, known.statuses))
            table.add_row(*map(Text, (known.code, statuses, known.meaning, known.cure)))
        yield table
