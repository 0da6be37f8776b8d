"""`telewarm`, and `python -m telewarm`: loading takes a second, in which Ctrl-C must not end in a traceback."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Silence and 130 for a Ctrl-C at any time."""
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _leave)
        from telewarm.cli import main as run  # noqa: PLC0415 (what is to be interrupted)

        if signal.getsignal(signal.SIGINT) is _leave:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter ends: it would tell of one in its own exit


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Nothing is open yet, and imports do not stand an exception everywhere."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
