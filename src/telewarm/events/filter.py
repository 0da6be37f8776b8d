"""Filter of events. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from telewarm.errors import UsageError
from telewarm.models import Event, EventType


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFilter:
    """None: all. With `bots`, what is about no single bot is left out."""

    bots: frozenset[str] | None = None
    types: frozenset[EventType] | None = None

    def __call__(self, event: Event) -> bool:
        if event.type is EventType.RESET:
            return True
        return (self.bots is None or event.bot in self.bots) and (self.types is None or event.type in self.types)

    @property
    def everything(self) -> bool:
        return self.bots is None and self.types is None


def wanted_types(names: Iterable[str]) -> frozenset[EventType] | None:
    """Types by name, `media.ready`, or all of a group, `media`; None when there are no names. Raises UsageError."""
    found: set[EventType] = set()
    for name in names:
        fitting = {one for one in EventType if name in {one, one.partition(".")[0]}}
        if not fitting:
            known = ", ".join(one for one in EventType)
            raise UsageError(f"types: there is no such type of event; there are {known}, and groups such as media")
        found |= fitting
    return frozenset(found) or None
