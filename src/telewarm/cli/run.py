"""What the commands share: settings from the environment, logs, an event loop, a server that stops when told."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
import uvloop
from fastapi import FastAPI

from telewarm import logs
from telewarm.cli.env import read_settings
from telewarm.settings import Settings

T = TypeVar("T")

GRACE = 10  # seconds that accepted requests have to finish


def load_settings() -> Settings:
    """From the environment and `.env` in the working directory; configures the logs too."""
    settings = read_settings()
    logs.configure(form=settings.telewarm_log_format, level=settings.telewarm_log_level)
    return settings


def run(main: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(main)


class Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again before the rest is closed."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve_api(app: FastAPI, *, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then finish what was accepted."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        http="httptools",
        lifespan="off",
        timeout_graceful_shutdown=GRACE,
    )
    server = Server(config)
    serving = asyncio.create_task(server.serve(), name="http server")
    stopping = asyncio.create_task(stop.wait(), name="wait for the stop signal")
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving


def stop_event() -> asyncio.Event:
    """Set by SIGINT and SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
