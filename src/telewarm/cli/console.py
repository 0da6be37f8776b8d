"""Output of the commands: tables on standard output, messages on standard error."""

from __future__ import annotations

import os

from rich.console import Console
from rich.text import Text

DEFAULT_PIPE_WIDTH = 160  # columns when the output is no terminal and COLUMNS is not set


def wide_console() -> Console:
    """As wide as the terminal or COLUMNS says; wide enough for a pipe."""
    console = Console(highlight=False)
    known = console.is_terminal or "COLUMNS" in os.environ  # noqa: TID251 - as rich reads it
    return console if known else Console(width=DEFAULT_PIPE_WIDTH, highlight=False)


def echo_err(*parts: str | Text) -> None:
    """Beside what the command prints for programs. Lines are wrapped for a terminal alone."""
    console = Console(stderr=True, highlight=False)
    console.print(*parts, markup=False, soft_wrap=not console.is_terminal)
