"""`python -m telewarm_benchmarks.skewed SECONDS COMMAND…`: telewarm on a host whose wall clock is wrong.

All Python code sees the shifted clock: it is shifted before anything else is imported. Not so obstore, whose Rust code
asks the system when it signs, nor `monotonic`, which is right on such a host too.
"""

from __future__ import annotations

import datetime as dt
import runpy
import sys
import time


def shift(seconds: float) -> None:
    """The wall clock of this process is so far ahead from now on."""
    real, real_time, real_time_ns = dt.datetime, time.time, time.time_ns  # noqa: TID251 - it stands in for the clock

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, real)  # values made in C, by asyncpg or pydantic, are of the real class

    class Shifted(dt.datetime, metaclass=Kind):
        __slots__ = ()

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]  # of the real class, too
            return real.now(tz) + dt.timedelta(seconds=seconds)

    dt.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: real_time() + seconds  # noqa: TID251
    time.time_ns = lambda: real_time_ns() + int(seconds * 1e9)


if __name__ == "__main__":
    shift(float(sys.argv[1]))
    del sys.argv[1]
    runpy.run_module("telewarm", run_name="__main__", alter_sys=True)
