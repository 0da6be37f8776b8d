"""`telewarm serve`."""

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


def serve(
    host: Annotated[str, typer.Option(help="Where to listen: an address or a name of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")] = 8000,
    worker: Annotated[bool, typer.Option(help="Warm media in this process too.")] = True,  # noqa: FBT002 - typer's flag
) -> None:
    """Serve the HTTP API and warm media, until Ctrl-C or SIGTERM.

    Clients send an API token: ADMIN_API_TOKEN, or the one that the first start makes, prints, and keeps in the data
    folder (`telewarm token show`). Settings come from the environment and from .env: see `telewarm env`.
    """
    settings = load_settings(announce=False)
    sockets = bind_sockets(host, port)
    announce_settings(settings)
    run(_serve(settings, host, sockets, worker=worker))


async def _serve(settings: Settings, host: str, sockets: list[socket.socket], *, worker: bool) -> None:
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port_of(sockets)}"

    def ready() -> None:
        echo_err(f"Telewarm is running at {url} (API docs: /docs). Press Ctrl-C to stop.")

    try:
        async with Telewarm.open(settings, worker=worker, migrate=True) as telewarm:
            stop = install_stop_event()  # while it opens, they cancel that
            print_token(telewarm)
            tune_garbage_collector()
            background.start(telewarm.checks.log_problems(), name="check dependencies")
            draining = asyncio.create_task(telewarm.worker.stop_when(stop), name="drain when told")
            try:
                await serve_api(
                    telewarm.api(), sockets=sockets, stop=stop, trusted_proxies=trusted_proxies(), on_ready=ready
                )
            finally:
                stop.set()
                await draining
    finally:
        close_sockets(sockets)
