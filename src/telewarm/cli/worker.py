"""`telewarm worker`."""

from __future__ import annotations

import asyncio
import socket
from typing import Annotated

import typer

from telewarm import background
from telewarm.assembly import tune_garbage_collector
from telewarm.cli.console import echo_err
from telewarm.cli.env import announce_settings
from telewarm.cli.run import install_stop_event, load_settings, print_token, run, trusted_proxies
from telewarm.runtime import Telewarm
from telewarm.server.asgi import serve_api
from telewarm.server.sockets import bind_sockets, close_sockets, port_of
from telewarm.settings import Settings


def worker(
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Serve /healthz, /readyz, /health and /metrics on this TCP port (0: any); the last two need a token.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen: an address or a name of this machine.")] = "127.0.0.1",
) -> None:
    """Warm media and run broadcasts without the HTTP API, until Ctrl-C or SIGTERM.

    They share the bots among them; when one dies, the others go on with its bots within seconds. Told to stop, it lets
    uploads in flight end for a few seconds and puts the rest back. Settings come from the environment and from .env.
    """
    settings = load_settings(announce=False)
    sockets = []
    if port is not None:
        sockets = bind_sockets(host, port)
    announce_settings(settings)
    run(_work(settings, sockets))


async def _work(settings: Settings, sockets: list[socket.socket]) -> None:
    try:
        async with Telewarm.open(settings, migrate=True) as telewarm:
            stop = install_stop_event()  # while it opens, they cancel that
            if sockets:
                print_token(telewarm)
            tune_garbage_collector()
            background.start(telewarm.checks.log_problems(), name="check dependencies")
            _print_started(telewarm, sockets)
            draining = asyncio.create_task(telewarm.worker.stop_when(stop), name="drain when told")
            try:
                if sockets:
                    await serve_api(
                        telewarm.monitoring_app(), sockets=sockets, stop=stop, trusted_proxies=trusted_proxies()
                    )
                await stop.wait()
            finally:
                stop.set()
                await draining
    finally:
        close_sockets(sockets)


def _print_started(telewarm: Telewarm, sockets: list[socket.socket]) -> None:
    metrics = f" Metrics: port {port_of(sockets)}, /metrics." if sockets else ""
    text = f"Worker running (up to {telewarm.worker.limits.held} items queued).{metrics} Press Ctrl-C to stop."
    echo_err(text)
