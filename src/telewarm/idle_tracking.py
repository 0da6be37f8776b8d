"""Context variable through which a task reports that it waits and does no work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeAlias

IdleContext: TypeAlias = AbstractContextManager[object]

_counted: ContextVar[IdleContext] = ContextVar("_counted", default=nullcontext())  # noqa: B039 - it has no state


def mark_idle() -> IdleContext:
    """While something of this task waits for a flood wait's end, a warm-up or another request. May be nested."""
    return _counted.get()


@contextmanager
def use_idle_tracker(waiting: IdleContext) -> Iterator[None]:
    """Who is parked in this, and in tasks that are made in it, enters `waiting`: any number of times at once."""
    token = _counted.set(waiting)
    try:
        yield
    finally:
        _counted.reset(token)
