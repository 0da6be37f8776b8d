"""Serving of an ASGI app by uvicorn, in the order that a stop needs."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import structlog
import uvicorn
from fastapi import FastAPI

from telewarm.server.sockets import close_sockets, listen_error, port_of

log = structlog.get_logger(__name__)

GRACE_SECONDS = 4.0  # that accepted requests have to finish
FORCED_CLOSE_SECONDS = 1  # in which those that have not are told so
LISTENERS_PER_SOCKET = 16  # connections that come in at each turn of the loop: libuv takes one from each socket
CUT_OFF_MESSAGES = ("ASGI callable returned without completing response", "timeout graceful shutdown exceeded")


class CutOffFilter(logging.Filter):
    """Keeps uvicorn from reporting as errors the responses that are cut off on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged."""
        if not any(message in record.getMessage() for message in CUT_OFF_MESSAGES):
            return True
        log.info("response_cut_off")
        return False


CUT_OFF_FILTER = CutOffFilter()  # one: a logger keeps a filter once


class UvicornServer(uvicorn.Server):
    """Leaves signals to the command, since uvicorn would raise them again before the rest is closed."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets. Raises UsageError when another process was quicker."""
        try:
            await super().startup(sockets)
        except OSError as error:  # another process bound the same address, and was quicker to listen
            raise listen_error(error, "this address", port=port_of(sockets) if sockets else 0) from error
        self._on_ready()


async def serve_api(
    app: FastAPI,
    *,
    sockets: list[socket.socket],
    stop: asyncio.Event,
    trusted_proxies: str = "",
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until `stop` is set, then finish what was accepted. Closes the sockets.

    `trusted_proxies`: addresses whose X-Forwarded-* headers are believed. `on_ready`: called once it answers.
    """
    config = uvicorn.Config(
        app,
        proxy_headers=bool(trusted_proxies),  # else any program of this machine could say that it calls from elsewhere
        forwarded_allow_ips=trusted_proxies,
        log_config=None,
        access_log=False,
        http="httptools",
        lifespan="off",
        timeout_graceful_shutdown=math.ceil(GRACE_SECONDS) + FORCED_CLOSE_SECONDS,
    )
    server = UvicornServer(config, on_ready)
    logging.getLogger("uvicorn.error").addFilter(CUT_OFF_FILTER)
    doors = [one.dup() for one in sockets for _ in range(LISTENERS_PER_SOCKET)]
    serving = asyncio.create_task(server.serve(doors), name="http server")
    stopping = asyncio.create_task(stop.wait(), name="wait for the stop signal")
    try:
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        app.state.streams.stop()  # the server would wait for them
        server.should_exit = True
        stopping.cancel()
        ending = asyncio.get_running_loop().call_later(GRACE_SECONDS, app.state.admission.cancel_all)
        await serving
        ending.cancel()
        close_sockets([*doors, *sockets])
