"""Confirmation of a person: on standard input, or on /dev/tty when a list comes there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TextIO


class Terminal:
    """A terminal with a person."""

    def __init__(self, read: TextIO, write: IO[str]) -> None:
        self._read = read
        self._write = write

    async def confirm(self, question: str, stop: asyncio.Event, *, default: bool) -> bool:
        """Ask a question; an empty answer is the default, and `stop`, the signal that ends the command, a no.

        Not in a thread: Ctrl-C must not wait for a line.
        """
        self._write.write(f"{question} {'[Y/n]' if default else '[y/N]'} ")
        self._write.flush()
        loop, typed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._read.fileno(), typed.set)
        waits = [
            asyncio.create_task(typed.wait(), name="wait for an answer"),
            asyncio.create_task(stop.wait(), name="wait for the stop signal"),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._read.fileno())
            for task in waits:
                task.cancel()
        if stop.is_set():
            return False
        line = self._read.readline()
        return default if line == "\n" else line.strip().lower() in {"y", "yes"}


@contextmanager
def open_terminal(*, stdin_is_list: bool) -> Iterator[Terminal | None]:
    """Open the terminal; None without a controlling one, as under cron: there is nobody to ask."""
    if not stdin_is_list and sys.stdin.isatty():
        yield Terminal(sys.stdin, sys.stderr)
        return
    device = Path("/dev/tty")
    with ExitStack() as stack:
        try:
            read, write = stack.enter_context(device.open()), stack.enter_context(device.open("w"))
        except OSError:
            yield None
        else:
            yield Terminal(read, write)
