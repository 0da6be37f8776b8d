"""Events encoded once, and filtered once for all subscribers who want the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec

from telewarm.events.filter import EventFilter
from telewarm.models import Event

AT_ONCE = 400  # events that are handed on in one piece, some 80 kB
SELECTIONS = 16  # of a batch that are kept


class EncodedEvent:
    """An event, and what it looks like."""

    def __init__(self, event: Event) -> None:
        self.event = event

    @cached_property
    def sse(self) -> bytes:
        """As `text/event-stream`."""
        event = self.event
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.type.encode(), msgspec.json.encode(shown(event)))


def shown(event: Event) -> dict[str, object]:
    """One flat object."""
    return {"id": event.id, "type": event.type, "at": event.at, "bot": event.bot, **event.facts}


class EventSlice:
    """What somebody wants of the events up to and with number `upto`."""

    def __init__(self, told: Sequence[EncodedEvent], *, upto: int) -> None:
        self.told = told
        self.upto = upto

    @property
    def events(self) -> list[Event]:
        return [one.event for one in self.told]

    @cached_property
    def sse(self) -> bytes:
        return b"".join(one.sse for one in self.told)


class EventBatch:
    """All events after number `after`, up to and with `upto`."""

    def __init__(self, told: Sequence[EncodedEvent], *, after: int, upto: int) -> None:
        self.told = told
        self.after = after
        self.upto = upto
        self._chunks: dict[EventFilter, EventSlice] = {}

    def __len__(self) -> int:
        return len(self.told)

    def of(self, wanted: EventFilter, *, seen: int) -> EventSlice:
        """What is wanted of those after number `seen`."""
        if seen > self.after:
            return self._select(wanted, seen)
        chunk = self._chunks.get(wanted)
        if chunk is None:
            chunk = self._select(wanted, seen)
            if len(self._chunks) < SELECTIONS:
                self._chunks[wanted] = chunk
        return chunk

    def _select(self, wanted: EventFilter, seen: int) -> EventSlice:
        return EventSlice([one for one in self.told if one.event.id > seen and wanted(one.event)], upto=self.upto)


def batched(events: Sequence[Event], *, after: int, upto: int) -> Iterator[EventBatch]:
    told = [EncodedEvent(event) for event in events]
    while len(told) > AT_ONCE:
        some, told = told[:AT_ONCE], told[AT_ONCE:]
        yield EventBatch(some, after=after, upto=some[-1].event.id)
        after = some[-1].event.id
    if after < upto:
        yield EventBatch(told, after=after, upto=upto)
