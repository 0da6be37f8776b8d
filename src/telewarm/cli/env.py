"""`telewarm env`: every variable with its default, unit and advice; also as a `.env` template and as the docs' page."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.table import Table
from rich.text import Text

from telewarm.cli.console import echo_err, wide_console
from telewarm.errors import SettingsError
from telewarm.settings import (
    ENV_FILE_VARIABLE,
    EnvVar,
    Group,
    Settings,
    SettingsFile,
    check_redirects,
    choose_settings_file,
    read_env_file,
    set_variables,
    variables,
)

NAMED_SETTINGS_FILE: ContextVar[Path | None] = ContextVar("the settings file that was named", default=None)


def find_settings_file() -> SettingsFile:
    """Raises SettingsError for one that is not there or not to be trusted."""
    environ = os.environ  # noqa: TID251 (the command line reads the environment)
    home = platformdirs.user_config_path("telewarm")
    chosen = choose_settings_file(environ, named_file=NAMED_SETTINGS_FILE.get(), folder=Path(), home=home)
    if chosen.is_implicit and chosen.path is not None:
        check_redirects(chosen.path, read_env_file(chosen.path), environ)
    return chosen


def read_settings(*, announce: bool = True) -> Settings:
    """Settings from the process's environment and the settings file. Raises SettingsError.

    With `announce`, one line on standard error says so when the file is the one of the current folder.
    """
    chosen = find_settings_file()
    settings = Settings.from_environ(os.environ, chosen.path)  # noqa: TID251 (the command line reads the environment)
    if announce and chosen.is_implicit:
        announce_settings(settings)
    return settings


def announce_settings(settings: Settings) -> None:
    """Which file they are from, and where the data are: one line on standard error."""
    path = find_settings_file().path
    line = f"settings: {path or 'the environment alone'}, data: {settings.telewarm_data}"
    if settings.telewarm_log_format == "json":
        facts = {"file": path and str(path), "data": str(settings.telewarm_data)}
        line = json.dumps({"event": "settings", "level": "info", **facts})
    echo_err(line)


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
        _print_settings()


def _print_settings() -> None:
    console = wide_console()
    environ = os.environ  # noqa: TID251 (the command line reads the environment)
    given: dict[str, str] = {}
    try:
        chosen = find_settings_file()
        console.print(Text(_describe_file(chosen)), soft_wrap=True)
        given = set_variables(environ, chosen.path)
        settings = Settings.from_environ(environ, chosen.path)
    except SettingsError as error:
        for table in tables(set(given), shown={}):
            console.print(table)
        console.print(Text(error.message, style="red"))
        raise typer.Exit(1) from None
    shown = {name: _value_with_origin(name, value, environ, chosen) for name, value in given.items()}
    held = {"TELEWARM_DATA": settings.telewarm_data, "TELEWARM_STORE_FOLDER": settings.store_folder}
    for table in tables(set(given), shown={**{name: f"{path} (default)" for name, path in held.items()}, **shown}):
        console.print(table)


def _describe_file(chosen: SettingsFile) -> str:
    if chosen.path is not None:
        return f"Settings file: {chosen.path}"
    places = f".env here, {platformdirs.user_config_path('telewarm') / '.env'}, --env-file, {ENV_FILE_VARIABLE}"
    return f"Settings file: none ({places})"


def _value_with_origin(name: str, value: str, environ: Mapping[str, str], chosen: SettingsFile) -> str:
    """And where it is from."""
    return f"{value} ({'environment' if environ.get(name) else (chosen.path or Path()).name})"


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
            now = _current_value(variable, names_set, shown)
            table.add_row(*map(Text, (variable.name, variable.default, variable.unit, now, variable.advice)))
        yield table


def _current_value(variable: EnvVar, names_set: set[str], shown: dict[str, str]) -> str:
    if variable.name not in names_set:
        return shown.get(variable.name, "not set")
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
        "Set them in the environment or in a file, of which one is read: the one that `telewarm --env-file PATH` or",
        "`TELEWARM_ENV_FILE` names, else `.env` in the current folder, else `.env` in your configuration folder",
        "(`~/.config/telewarm` on Linux). The environment wins, an empty variable counts as not set, `$` in the file",
        "stands for itself, and folders in it are relative to it. A `.env` that merely lies in the current folder must",
        "be yours, and may not send the tokens of other bots elsewhere. A wrong value is refused at start with its",
        "name, what is wrong and an example. `telewarm env` shows all of this and what is set now; with `--dotenv` it",
        "prints a `.env` file to start from. Secrets are never shown.",
    ]
    for group, members in _groups():
        lines += ["", f"## {group.value}", "", "| variable | default | unit | advice |", "| --- | --- | --- | --- |"]
        lines += [_markdown_row(variable) for variable in members]
    return "\n".join(lines) + "\n"


def _markdown_row(variable: EnvVar) -> str:
    secret = " Secret." if variable.secret else ""
    example = f" Example: `{variable.example}`" if variable.example else ""
    advice = f"{variable.advice}{secret}{example}"
    return f"| `{variable.name}` | {variable.default} | {variable.unit} | {advice} |"


def _groups() -> Iterator[tuple[Group, list[EnvVar]]]:
    for group, members in groupby(variables(), key=attrgetter("group")):
        yield group, list(members)
