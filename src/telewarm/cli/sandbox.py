"""`telewarm sandbox`: a Bot API server of our own, for the demo, the tests and the benchmarks."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from telewarm.cli.console import echo_err
from telewarm.sandbox import Config, Floods, Network
from telewarm.sandbox.serve import serve
from telewarm.server.sockets import explain_listen_error

HINTS_TEXT = """
The sandbox stands in for Telegram. In another terminal:

  export TELEGRAM_API_ROOT={url}
  echo 1000000001:AAE00000000000000000000000000000001 | telewarm bot add shop --chat -1001234567890
  telewarm media add shop photo.jpg --work
  telewarm send shop 500000001 --media 1

Any token of this form is a bot, any positive id a person, any id that starts with -100 a channel the bot can post to.
Statistics: {url}/sandbox/stats. Press Ctrl-C to stop.
"""


class FloodChoice(StrEnum):
    """Flood limits of the sandbox."""

    OFF = "off"
    TELEGRAM = "telegram"


FLOOD_CONFIGS = {FloodChoice.OFF: Floods.off, FloodChoice.TELEGRAM: Floods.telegram}


def sandbox(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8081,
    floods: Annotated[FloodChoice, typer.Option(help="Flood limits: none, or Telegram's.")] = FloodChoice.OFF,
    latency_ms: Annotated[float, typer.Option(min=0, help="Milliseconds before each call takes effect.")] = 0,
    bandwidth: Annotated[float, typer.Option(min=0, help="Upload bytes a second on each connection; 0: no bound.")] = 0,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="Stop when standard input ends too, as when a parent dies.")
    ] = False,
    local: Annotated[bool, typer.Option("--local", help="As a server started with --local: file paths, 2 GB.")] = False,
) -> None:
    """Run a Bot API server on this machine, to try Telewarm or a bot without Telegram. Stops at Ctrl-C.

    Prints its URL, and beside it a token and chat ids to paste. Every token of
    the right form is a bot, and every chat id a chat. docs/sandbox.md says how
    to change chats, cause errors and read statistics.
    """
    config = Config(
        floods=FLOOD_CONFIGS[floods](),
        network=Network(latency=latency_ms / 1000, bandwidth=bandwidth or None),
        local=local,
    )
    with explain_listen_error(host, port):
        serve(config, host=host, port=port, ready=_print_hints, until_eof=until_eof)


def _print_hints(url: str) -> None:
    """Print the URL alone to standard output, for scripts, and hints for a person beside it."""
    typer.echo(url)
    if sys.stderr.isatty():
        echo_err(HINTS_TEXT.format(url=url))
