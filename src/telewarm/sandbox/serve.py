"""Server process of a sandbox, until a signal ends it."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import sys
from collections.abc import Callable

from telewarm.sandbox.config import Config
from telewarm.sandbox.server import Sandbox

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def fast_loop() -> LoopFactory | None:
    """Return uvloop's factory if it is installed; it does not support Windows."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: LoopFactory = importlib.import_module("uvloop").new_event_loop
    return factory


def serve(config: Config, *, host: str, port: int, ready: Callable[[str], None], until_eof: bool = False) -> None:
    """Run until SIGTERM or SIGINT. `ready`: called with the URL once connections are accepted.

    `until_eof`: stop at the end of standard input, too. A parent that is killed closes it, and leaves no sandbox
    behind.
    """
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(_serve(config, host, port, ready, until_eof=until_eof))


class _Eof(asyncio.Protocol):
    def __init__(self, stopped: asyncio.Event) -> None:
        self._stopped = stopped

    def connection_lost(self, _: Exception | None) -> None:
        """Stop."""
        self._stopped.set()


async def _serve(config: Config, host: str, port: int, ready: Callable[[str], None], *, until_eof: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Sandbox.running(config, host=host, port=port) as sandbox:
        if until_eof:
            await loop.connect_read_pipe(lambda: _Eof(stopped), sys.stdin)
        ready(sandbox.url)
        await stopped.wait()
