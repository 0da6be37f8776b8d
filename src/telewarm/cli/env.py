"""`telewarm env`: every variable with its default, unit and advice; also as a `.env` template and as the docs' page."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from telewarm.cli.console import wide
from telewarm.errors import SettingsError
from telewarm.settings import Group, Settings, Variable, given_variables, variables

ENV_FILE = Path(".env")


def read_settings() -> Settings:
    """From the process's environment and `.env` in the current folder; raises SettingsError."""
    return Settings.from_environ(os.environ, ENV_FILE)  # noqa: TID251 (the command line reads the environment)


def env(
    *,
    dotenv: Annotated[bool, typer.Option("--dotenv", help="Print a commented .env file to start from.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/settings.md.")] = False,
) -> None:
    """Show every setting: default, unit, advice, and whether it is set now. Exits 1 when one is wrong."""
    if dotenv:
        typer.echo(dotenv_template())
    elif markdown:
        typer.echo(markdown_page(), nl=False)
    else:
        _show()


def _show() -> None:
    console = wide()
    given = given_variables(os.environ, ENV_FILE)  # noqa: TID251 (the command line reads the environment)
    problem = None
    try:
        read_settings()
    except SettingsError as error:
        problem = error
    for table in tables(set(given), shown={} if problem else given):
        console.print(table)
    if problem:
        console.print(Text(problem.message, style="red"))
        raise typer.Exit(1)


def tables(names_set: set[str], *, shown: dict[str, str]) -> Iterator[Table]:
    """One table a group. A variable that is set shows its value from `shown`, if that has it and it is no secret."""
    for group, members in _groups():
        table = Table(title=group.value, title_justify="left", title_style="bold", expand=True)
        table.add_column("variable", overflow="fold", style="cyan", min_width=20)
        table.add_column("default", overflow="fold", ratio=2)
        table.add_column("unit", overflow="fold", ratio=1)
        table.add_column("now", overflow="fold", ratio=2)
        table.add_column("advice", ratio=5)
        for variable in members:
            now = _now(variable, names_set, shown)
            table.add_row(*map(Text, (variable.name, variable.default, variable.unit, now, variable.advice)))
        yield table


def _now(variable: Variable, names_set: set[str], shown: dict[str, str]) -> str:
    if variable.name not in names_set:
        return "not set"
    return "set" if variable.secret else shown.get(variable.name, "set")


def dotenv_template() -> str:
    """A `.env` file in which every variable is explained and none is set."""
    lines = ["# Telewarm's settings. Take the # off the lines to change; `telewarm env` shows what holds now."]
    for group, members in _groups():
        lines += ["", f"# --- {group.value} ---"]
        for variable in members:
            unit = f" ({variable.unit})" if variable.unit else ""
            advice = f"{variable.advice} Default: {variable.default}{unit}."
            lines += [
                "",
                *textwrap.wrap(advice, 110, initial_indent="# ", subsequent_indent="# ", break_long_words=False),
            ]
            lines += [f"#{variable.name}={variable.example}"]
    return "\n".join(lines)


def markdown_page() -> str:
    """The text of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "<!-- Made by `telewarm env --markdown > docs/settings.md`. A test fails when it is out of date. -->",
        "",
        "Set them in the environment or in a `.env` file in the current folder; the environment wins, an empty",
        "variable counts as not set, and `$` in the file stands for itself. A wrong value is refused at start with its",
        "name, what is wrong and an example. `telewarm env` shows all of this and what is set now; with `--dotenv` it",
        "prints a `.env` file to start from. Secrets are never shown.",
    ]
    for group, members in _groups():
        lines += ["", f"## {group.value}", "", "| variable | default | unit | advice |", "| --- | --- | --- | --- |"]
        lines += [_markdown_row(variable) for variable in members]
    return "\n".join(lines) + "\n"


def _markdown_row(variable: Variable) -> str:
    secret = " Secret." if variable.secret else ""
    example = f" Example: `{variable.example}`" if variable.example else ""
    advice = f"{variable.advice}{secret}{example}"
    return f"| `{variable.name}` | {variable.default} | {variable.unit} | {advice} |"


def _groups() -> Iterator[tuple[Group, list[Variable]]]:
    for group, members in groupby(variables(), key=attrgetter("group")):
        yield group, list(members)
