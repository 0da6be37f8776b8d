"""Entry point of `telewarm` and `python -m telewarm`.

Loading takes a second, in which Ctrl-C must not show a traceback.
"""

from __future__ import annotations

# signal numbers; the enums of `signal` take longer to load than an early Ctrl-C.
import _signal  # type: ignore[import-not-found]
import os
import sys

INTERRUPTED = 128 + _signal.SIGINT


def main() -> None:
    """Run the command line; exit silently with 130 on a Ctrl-C at any time."""
    try:
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            _signal.signal(_signal.SIGINT, _leave)
        from telewarm.cli import main as run  # noqa: PLC0415 (what is to be interrupted)

        if _signal.getsignal(_signal.SIGINT) is _leave:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # the interpreter is exiting, and would report a signal


def _leave(_number: int, _frame: object) -> None:
    """Exit at once: nothing is open yet, and not every import survives an exception."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
