"""Context variable through which a task reports that it waits and does no work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeAlias

IdleContext: TypeAlias = AbstractContextManager[object]

_idle_context: ContextVar[IdleContext] = ContextVar("_counted", default=nullcontext())  # noqa: B039 - it has no state


def mark_idle() -> IdleContext:
    """Report that this task waits (flood wait, warm-up, other request) while the block runs. May be nested."""
    return _idle_context.get()


@contextmanager
def use_idle_tracker(context: IdleContext) -> Iterator[None]:
    """Enter `context` whenever this task, or one created in the block, is idle: any number of times at once."""
    token = _idle_context.set(context)
    try:
        yield
    finally:
        _idle_context.reset(token)
