"""Running of commands: settings from the environment, logs, an event loop, signals, the HTTP server."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
import uvloop

from telewarm import logs
from telewarm.cli.console import echo_err
from telewarm.cli.env import read_settings
from telewarm.probe.isolation import close_memory
from telewarm.runtime import Telewarm
from telewarm.settings import Settings

T = TypeVar("T")

FORCE_AFTER_INTERRUPTS = 3  # times that Ctrl-C is pressed before a command ends without closing anything


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


def trusted_proxies() -> str:
    """Addresses of proxies whose X-Forwarded-* headers are believed: FORWARDED_ALLOW_IPS, as uvicorn calls it.

    By default none are: any program of this machine could say that it calls from elsewhere.
    """
    return os.environ.get("FORWARDED_ALLOW_IPS", "")  # noqa: TID251 (the command line reads the environment)


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
