"""The command line. Each command teaches itself: `telewarm COMMAND --help`."""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn, TypeAlias

import typer
from rich.text import Text

import telewarm
from telewarm import logs
from telewarm.cli import (
    backup,
    bot,
    broadcast,
    demo,
    env,
    errors,
    file_ids,
    media,
    migrate,
    options,
    rotate,
    sandbox,
    send,
    serve,
    token,
    worker,
)
from telewarm.cli.console import echo_err
from telewarm.cures import Interface
from telewarm.database.transient import as_unavailable_error
from telewarm.errors import TelewarmError

app = typer.Typer(
    help="Keeps a Telegram bot's media warm: upload once, send by file_id forever.",
    epilog="Exit codes: 0 done, 1 an error (telewarm errors explains its code), 2 a wrong command line, 130 Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)


def print_version(value: bool) -> None:  # noqa: FBT001 - as Typer calls it
    """Print the version and end, for `--version`."""
    if value:
        typer.echo(f"telewarm {telewarm.__version__}")
        raise typer.Exit


VersionOption: TypeAlias = Annotated[
    bool, typer.Option("--version", "-V", callback=print_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def choose_settings_file(  # noqa: D103 - a docstring would become the help
    ctx: typer.Context,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            help="Read settings from this file instead of .env here or in your configuration folder.",
            show_default=False,
        ),
    ] = None,
    *,
    version: VersionOption = False,  # noqa: ARG001 - its callback did all
) -> None:
    logs.configure(level="WARNING")  # until the settings are read: what is printed is for programs
    ctx.call_on_close(partial(env.NAMED_SETTINGS_FILE.reset, env.NAMED_SETTINGS_FILE.set(env_file)))


app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("send", help=send.HELP, cls=options.ChatIdCommand, context_settings=send.CONTEXT_SETTINGS)(send.send)
app.add_typer(bot.app, name="bot")
media.app.command("file-id")(file_ids.file_id)
app.add_typer(media.app, name="media")
app.add_typer(broadcast.app, name="broadcast")
app.command("sandbox")(sandbox.sandbox)
app.command("migrate")(migrate.migrate)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore_backup)
app.command("upgrade-database")(backup.upgrade_database)
app.add_typer(token.app, name="token")
app.command("rotate-key")(rotate.rotate_key)
app.command("env")(env.env)
app.command("errors")(errors.errors)
if find_spec("telewarm_benchmarks") is not None:  # in a checkout: the wheel has no benchmarks
    app.add_typer(import_module("telewarm_benchmarks.commands").app, name="bench")


def main() -> None:
    """Run the command line. Our errors, a lost database and a full disk end it with one sentence and exit code 1."""
    try:
        app()
    except TelewarmError as error:
        _fail(error)
    except Exception as error:
        if (ours := as_unavailable_error(error)) is None:
            raise
        _fail(ours)


def _fail(error: TelewarmError) -> NoReturn:
    echo_err(Text(error.code, style="bold red"), Text(logs.redact(error.message_for(Interface.CLI))))
    sys.exit(1)
