"""Filter of events. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from telewarm.errors import UsageError
from telewarm.models import Event, EventType


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFilter:
    """Filter by bots and types; None: all. With `bots`, events about no single bot are left out."""

    bots: frozenset[str] | None = None
    types: frozenset[EventType] | None = None

    def __call__(self, event: Event) -> bool:
        """Return whether an event passes. `reset` always does."""
        if event.type is EventType.RESET:
            return True
        return (self.bots is None or event.bot in self.bots) and (self.types is None or event.type in self.types)

    @property
    def everything(self) -> bool:
        """Whether all events pass."""
        return self.bots is None and self.types is None


def wanted_types(names: Iterable[str]) -> frozenset[EventType] | None:
    """Return types by name, `media.ready`, or by group, `media`; None when there are no names. Raises UsageError."""
    found: set[EventType] = set()
    for name in names:
        fitting = {one for one in EventType if name in {one, one.partition(".")[0]}}
        if not fitting:
            known = ", ".join(one for one in EventType)
            raise UsageError(f"types: there is no such type of event; there are {known}, and groups such as media")
        found |= fitting
    return frozenset(found) or None
