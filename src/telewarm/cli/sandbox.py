"""`telewarm sandbox`: a Bot API server of our own, for the demo, the tests and the benchmarks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from telewarm.sandbox import Config, Floods, Network
from telewarm.sandbox.serve import serve


class FloodChoice(StrEnum):
    OFF = "off"
    TELEGRAM = "telegram"


FLOODS = {FloodChoice.OFF: Floods.off, FloodChoice.TELEGRAM: Floods.telegram}


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
    """Run a Bot API server of our own; it prints its URL and stops at Ctrl-C."""
    config = Config(
        floods=FLOODS[floods](),
        network=Network(latency=latency_ms / 1000, bandwidth=bandwidth or None),
        local=local,
    )
    serve(config, host=host, port=port, ready=typer.echo, until_eof=until_eof)
