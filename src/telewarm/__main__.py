"""`telewarm`, and `python -m telewarm`: loading takes a second, in which Ctrl-C must not end in a traceback."""

from __future__ import annotations

# What `signal` wraps in enums, which take longer to load than a quick Ctrl-C to come.
import _signal  # type: ignore[import-not-found]
import os
import sys

INTERRUPTED = 128 + _signal.SIGINT


def main() -> None:
    """Silence and 130 for a Ctrl-C at any time."""
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
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # the interpreter ends: it would tell of one in its own exit


def _leave(_number: int, _frame: object) -> None:
    """Nothing is open yet, and imports do not stand an exception everywhere."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
