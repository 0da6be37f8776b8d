"""Event bus: subscriptions from now on, or from where a subscriber left off, in whatever process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context

from telewarm import background, clock
from telewarm.database import events
from telewarm.database.connection import Pool
from telewarm.events.batches import MAX_BATCH_EVENTS, EncodedEvent, EventSlice, batched
from telewarm.events.filter import EventFilter
from telewarm.events.tail import READ_SECONDS, EventTail
from telewarm.models import Event, EventType

ALL_EVENTS = EventFilter()
MAX_PAGE_BATCHES = 25  # batches read for one page of filtered events


class EventBus:
    """Lets each subscriber go at its own pace.

    A slow subscriber reads from the database; one that is too far behind gets `reset`. No subscriber waits for another,
    and no queue grows.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tail: EventTail | None = None
        self._ready: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._listeners = 0
        self._ending: set[asyncio.Task[None]] = set()
        self._catching_up = asyncio.Lock()

    @property
    def listeners(self) -> int:
        """Number of subscribers in this process."""
        return self._listeners

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """On exit, deliver what is left to all subscribers."""
        try:
            yield
        finally:
            self._stop_tail()
            if self._ending:
                await asyncio.wait(self._ending)

    async def follow(
        self, event_filter: EventFilter = ALL_EVENTS, *, after: int | None = None
    ) -> AsyncGenerator[EventSlice, None]:
        """Follow the events from now on, or after the event with that id.

        The first slice has no events and says where it begins; a later slice without events is a heartbeat. Raises
        DatabaseUnavailable when nobody can listen now, and on a lost database for a subscriber that is behind.
        """
        with self._subscribed() as (feed, ready):
            await asyncio.shield(ready)
            seen = feed.upto if after is None else after
            yield EventSlice((), upto=seen)
            while not feed.closed:
                changed = feed.changed
                chunk = None if seen == feed.upto else await self._next(feed, event_filter, seen)
                if chunk is None:
                    await changed.wait()
                    if seen >= feed.upto:
                        yield EventSlice((), upto=seen)
                else:
                    seen = chunk.upto
                    if chunk.encoded:
                        yield chunk

    async def page(self, event_filter: EventFilter = ALL_EVENTS, *, after: int | None = None, limit: int) -> EventSlice:
        """Return events after the event with that id, for polling; continue with the slice's `upto`.

        None: no events, start from now. Raises on a lost database.
        """
        if after is None:
            return EventSlice((), upto=await events.assign_sequence(self._pool))
        encoded: list[EncodedEvent] = []
        for _ in range(MAX_PAGE_BATCHES):
            chunk = await self._read_missed(event_filter, after)
            if chunk is None:
                break
            encoded += chunk.encoded
            after = chunk.upto
            if len(encoded) >= limit:
                return EventSlice(encoded[:limit], upto=encoded[limit - 1].event.id)
        return EventSlice(encoded, upto=after)

    @contextmanager
    def _subscribed(self) -> Iterator[tuple[EventTail, asyncio.Future[None]]]:
        """Subscribe. The first subscriber starts the tail, the last one stops it."""
        if self._tail is None or self._ready is None:
            self._tail = EventTail(self._pool)
            self._ready = asyncio.get_running_loop().create_future()
            apart = Context()  # not the context of the request that starts it, with its request id
            self._task = background.start(self._tail.run(self._ready), name="events", context=apart)
        feed = self._tail
        self._listeners += 1
        try:
            yield feed, self._ready
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._stop_tail()

    def _stop_tail(self) -> None:
        if self._tail is None or self._task is None:
            return
        self._tail.close()
        self._task.cancel()
        self._ending.add(self._task)
        self._task.add_done_callback(self._ending.discard)
        self._tail = self._ready = self._task = None

    async def _next(self, tail: EventTail, event_filter: EventFilter, seen: int) -> EventSlice | None:
        """Return the next slice; None: nothing yet."""
        batch = tail.batch_after(seen)
        return await self._read_missed(event_filter, seen) if batch is None else batch.select(event_filter, seen=seen)

    async def _read_missed(self, event_filter: EventFilter, seen: int) -> EventSlice | None:
        """Read the next slice from the database, one subscriber at a time. None: nothing yet."""
        async with self._catching_up, asyncio.timeout(READ_SECONDS):
            page = await events.read_after(self._pool, seen, limit=MAX_BATCH_EVENTS)
        if page.is_gap:
            reset = Event(id=page.last_id, type=EventType.RESET, at=clock.now(), bot=None, facts={})
            return EventSlice([EncodedEvent(reset)], upto=page.last_id)
        for batch in batched(page.events, after=seen, upto=page.last_id):
            return batch.select(event_filter, seen=seen)
        return None
