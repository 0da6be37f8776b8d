"""`telewarm demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from telewarm.cli.env import read_settings
from telewarm.cli.run import install_stop_event, run, trusted_proxies
from telewarm.demo import showcase
from telewarm.server.asgi import serve_api
from telewarm.server.sockets import bind_sockets


def demo(
    once: Annotated[bool, typer.Option(help="End after the table instead of serving the API.")] = False,  # noqa: FBT002
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port of the API.")] = 8000,
    svg: Annotated[typer.FileTextWrite | None, typer.Option(help="Keep a picture of what was printed.")] = None,
) -> None:
    """The whole trip on this machine alone: real media, two bots, a sandbox in Telegram's place.

    Needs no account and touches nothing but its own folder, `demo` in the data folder.
    """
    run(_demo(once=once, port=port, svg=svg))


async def _demo(*, once: bool, port: int, svg: typer.FileTextWrite | None) -> None:
    stop = install_stop_event()
    sockets = [] if once else bind_sockets("127.0.0.1", port)
    async with showcase.running(read_settings().telewarm_data / "demo", stop) as show:
        if svg is not None:
            svg.write(show.picture())
        if not once and not stop.is_set():
            await serve_api(
                show.telewarm.api(),
                sockets=sockets,
                stop=stop,
                trusted_proxies=trusted_proxies(),
                on_ready=lambda: show.explain(port),
            )
