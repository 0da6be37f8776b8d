"""Batches of events: encoded once, and filtered once for all subscribers with the same filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec

from telewarm.events.filter import EventFilter
from telewarm.models import Event

MAX_BATCH_EVENTS = 400  # events of about 80 kB
MAX_CACHED_SLICES = 16  # cached filters of a batch


class EncodedEvent:
    """An event with its encodings."""

    def __init__(self, event: Event) -> None:
        self.event = event

    @cached_property
    def sse(self) -> bytes:
        """The event as `text/event-stream`."""
        event = self.event
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (
            event.id,
            event.type.encode(),
            msgspec.json.encode(to_json_object(event)),
        )


def to_json_object(event: Event) -> dict[str, object]:
    """Convert an event to one flat JSON object."""
    return {"id": event.id, "type": event.type, "at": event.at, "bot": event.bot, **event.facts}


class EventSlice:
    """The events that pass a filter, up to and including number `upto`."""

    def __init__(self, encoded: Sequence[EncodedEvent], *, upto: int) -> None:
        self.encoded = encoded
        self.upto = upto

    @property
    def events(self) -> list[Event]:
        """The events."""
        return [one.event for one in self.encoded]

    @cached_property
    def sse(self) -> bytes:
        """The events as `text/event-stream`."""
        return b"".join(one.sse for one in self.encoded)


class EventBatch:
    """All events after number `after`, up to and including `upto`."""

    def __init__(self, encoded: Sequence[EncodedEvent], *, after: int, upto: int) -> None:
        self.encoded = encoded
        self.after = after
        self.upto = upto
        self._slices: dict[EventFilter, EventSlice] = {}

    def __len__(self) -> int:
        return len(self.encoded)

    def select(self, event_filter: EventFilter, *, seen: int) -> EventSlice:
        """Return the events after number `seen` that pass the filter."""
        if seen > self.after:
            return self._filter(event_filter, seen)
        chunk = self._slices.get(event_filter)
        if chunk is None:
            chunk = self._filter(event_filter, seen)
            if len(self._slices) < MAX_CACHED_SLICES:
                self._slices[event_filter] = chunk
        return chunk

    def _filter(self, event_filter: EventFilter, seen: int) -> EventSlice:
        return EventSlice(
            [one for one in self.encoded if one.event.id > seen and event_filter(one.event)], upto=self.upto
        )


def batched(events: Sequence[Event], *, after: int, upto: int) -> Iterator[EventBatch]:
    """Split events into batches."""
    encoded = [EncodedEvent(event) for event in events]
    while len(encoded) > MAX_BATCH_EVENTS:
        some, encoded = encoded[:MAX_BATCH_EVENTS], encoded[MAX_BATCH_EVENTS:]
        yield EventBatch(some, after=after, upto=some[-1].event.id)
        after = some[-1].event.id
    if after < upto:
        yield EventBatch(encoded, after=after, upto=upto)
