"""Running of commands: settings from the environment, logs, an event loop, signals, the HTTP server."""

from __future__ import annotations

import asyncio
import errno
import gc
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
import uvicorn
import uvloop
from fastapi import FastAPI

from telewarm import logs
from telewarm.api.door import LoadSheddingProtocol
from telewarm.cli.console import echo_err
from telewarm.cli.env import read_settings
from telewarm.errors import UsageError
from telewarm.probe.isolation import close_memory
from telewarm.runtime import Telewarm
from telewarm.settings import Settings

T = TypeVar("T")

GRACE_SECONDS = 4.0  # seconds that accepted requests have to finish
FORCE_AFTER_INTERRUPTS = 3  # times that Ctrl-C is pressed before a command ends without closing anything
FORCED_CLOSE_SECONDS = 1  # seconds in which those that have not are told so
LISTENERS_PER_SOCKET = 16  # connections that come in at each turn of the loop: libuv takes one from each socket
LISTEN_CURES = {
    errno.EADDRINUSE: "Port {port} is already in use. Stop that program or choose another --port",
    errno.EACCES: "Port {port} needs root, as all ports below 1024. Choose another --port",
    errno.EADDRNOTAVAIL: "This machine does not have the address {host}. Choose another --host",
}


def load_settings(*, announce: bool = True) -> Settings:
    """Read the settings as `read_settings` does, and configure the logs."""
    settings = read_settings(announce=announce)
    logs.configure(log_format=settings.telewarm_log_format, level=settings.telewarm_log_level)
    return settings


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command on uvloop.

    Objects loaded by now live to the end, so the garbage collector skips them (10 % measured). Other processes of the
    user cannot read this one's memory, which holds tokens. Ctrl-C, SIGTERM and a closed terminal cancel the command:
    everything that it opened is closed, the embedded database too. Raises typer.Exit then, with 128 and the signal's
    number. The third Ctrl-C exits at once.
    """
    received: list[int] = []
    guarded = _cancel_on_signal(main, received)
    try:
        close_memory()
        gc.collect()
        gc.freeze()
        return uvloop.run(guarded)
    except asyncio.CancelledError:  # nothing told: a Ctrl-C just before the loop's own handlers were there
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT)) from None
    finally:
        guarded.close()  # without a word, when Ctrl-C came before they began
        main.close()


async def _cancel_on_signal(main: Coroutine[Any, Any, T], received: list[int]) -> T:
    task = asyncio.ensure_future(main)

    def end(number: int) -> None:
        """Handle a signal."""
        received.append(number)
        if len(received) == 1:
            task.cancel()
        elif received.count(signal.SIGINT) >= FORCE_AFTER_INTERRUPTS:
            os._exit(128 + number)

    for number in _stop_signals():
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    return await task


def _stop_signals() -> list[signal.Signals]:
    """Return the signals that end a command, without ignored ones (nohup); none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    known = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


class UvicornServer(uvicorn.Server):
    """Server that leaves signals to us: uvicorn would raise them again before the rest is closed."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        try:
            await super().startup(sockets)
        except OSError as error:  # another process bound the same address, and was quicker to listen
            raise _listen_error(error, "this address", port=port_of(sockets) if sockets else 0) from error
        self._on_ready()


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind the addresses of a host, before anything else is started. Port 0: a free one. Raises UsageError."""
    taken: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            one = socket.socket(family, socket.SOCK_STREAM)
            taken.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], port or port_of(taken), *address[2:]))
    except OSError as error:
        close_sockets(taken)
        raise _listen_error(error, host, port=port) from error
    return taken


@contextmanager
def explain_listen_error(host: str, port: int) -> Iterator[None]:
    """Turn the error of an address that cannot be listened on into UsageError."""
    try:
        yield
    except OSError as error:
        if error.errno not in LISTEN_CURES:
            raise
        raise _listen_error(error, host, port=port) from error


def _listen_error(error: OSError, host: str, *, port: int) -> UsageError:
    cure = LISTEN_CURES.get(error.errno or 0, "Cannot listen on {host}, port {port}: {reason}. Check --host and --port")
    return UsageError(cure.format(host=host, port=port, reason=error.strerror or error))


def port_of(sockets: Sequence[socket.socket]) -> int:
    """Return the port of the first socket, 0 before it is bound."""
    return int(sockets[0].getsockname()[1])


def close_sockets(sockets: Sequence[socket.socket]) -> None:
    """Close the sockets."""
    for one in sockets:
        one.close()


async def serve_api(
    app: FastAPI, *, sockets: list[socket.socket], stop: asyncio.Event, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Serve until `stop` is set, then finish accepted requests, and close the sockets.

    `on_ready`: called when it serves.
    """
    proxies = os.environ.get("FORWARDED_ALLOW_IPS", "")  # noqa: TID251 (the command line reads the environment)
    config = uvicorn.Config(
        app,
        proxy_headers=bool(proxies),  # else any program of this machine could say that it calls from elsewhere
        forwarded_allow_ips=proxies,
        log_config=None,
        access_log=False,
        http=LoadSheddingProtocol,
        lifespan="off",
        timeout_graceful_shutdown=math.ceil(GRACE_SECONDS) + FORCED_CLOSE_SECONDS,
    )
    server = UvicornServer(config, on_ready)
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


def print_token(telewarm: Telewarm) -> None:
    """Print what a client needs to standard error: the server's own token if it is new, else where it is."""
    own = telewarm.server_token()
    if own.path is None:
        return
    text = f"{own.secret} (kept in {own.path})" if own.created else f"kept in {own.path} (telewarm token show)"
    echo_err(f"API token: {text}")


def install_stop_event() -> asyncio.Event:
    """Return an event set by SIGINT, SIGTERM, and SIGHUP, which a closed terminal sends."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _stop_signals():
        loop.add_signal_handler(number, stop.set)
    return stop
