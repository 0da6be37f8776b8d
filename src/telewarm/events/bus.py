"""Subscriptions to events: from now on, or from where a subscriber left off, in whatever process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context

from telewarm import background, clock
from telewarm.database import events
from telewarm.database.connection import Pool
from telewarm.events.batches import AT_ONCE, EncodedEvent, EventSlice, batched
from telewarm.events.filter import EventFilter
from telewarm.events.tail import READ_SECONDS, EventTail
from telewarm.models import Event, EventType

EVERYTHING = EventFilter()
LOOKED_THROUGH = 25  # times AT_ONCE events, for one page of those that are wanted


class EventBus:
    """Each who listens goes on at a pace of its own: one that falls behind reads from the database, and one that is too
    far behind is told `reset`. Nobody waits for another, and nobody's news pile up here.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._feed: EventTail | None = None
        self._ready: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._listeners = 0
        self._ending: set[asyncio.Task[None]] = set()
        self._catching_up = asyncio.Lock()

    @property
    def listeners(self) -> int:
        """How many listen here."""
        return self._listeners

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """At the end, whoever still listens has heard it all."""
        try:
            yield
        finally:
            self._end()
            if self._ending:
                await asyncio.wait(self._ending)

    async def follow(
        self, wanted: EventFilter = EVERYTHING, *, after: int | None = None
    ) -> AsyncGenerator[EventSlice, None]:
        """What happens from now on, or after the event with that id. First comes a chunk without events, which says
        where it begins; later such a chunk is a sign of life. Raises DatabaseUnavailable when nobody can listen now,
        and what a lost database raises when somebody is behind.
        """
        with self._listening() as (feed, ready):
            await asyncio.shield(ready)
            seen = feed.upto if after is None else after
            yield EventSlice((), upto=seen)
            while not feed.closed:
                changed = feed.changed
                chunk = None if seen == feed.upto else await self._next(feed, wanted, seen)
                if chunk is None:
                    await changed.wait()
                    if seen >= feed.upto:
                        yield EventSlice((), upto=seen)
                else:
                    seen = chunk.upto
                    if chunk.told:
                        yield chunk

    async def page(self, wanted: EventFilter = EVERYTHING, *, after: int | None = None, limit: int) -> EventSlice:
        """For those who ask now and then: what happened after the event with that id, up to the chunk's `upto`, where
        to go on. None: nothing, from now on. Raises what a lost database raises.
        """
        if after is None:
            return EventSlice((), upto=await events.number(self._pool))
        told: list[EncodedEvent] = []
        for _ in range(LOOKED_THROUGH):
            chunk = await self._behind(wanted, after)
            if chunk is None:
                break
            told += chunk.told
            after = chunk.upto
            if len(told) >= limit:
                return EventSlice(told[:limit], upto=told[limit - 1].event.id)
        return EventSlice(told, upto=after)

    @contextmanager
    def _listening(self) -> Iterator[tuple[EventTail, asyncio.Future[None]]]:
        """The first one starts the feed, the last one ends it."""
        if self._feed is None or self._ready is None:
            self._feed = EventTail(self._pool)
            self._ready = asyncio.get_running_loop().create_future()
            apart = Context()  # it outlives the request that starts it, whose id is not its own
            self._task = background.start(self._feed.run(self._ready), name="events", context=apart)
        feed = self._feed
        self._listeners += 1
        try:
            yield feed, self._ready
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._end()

    def _end(self) -> None:
        if self._feed is None or self._task is None:
            return
        self._feed.close()
        self._task.cancel()
        self._ending.add(self._task)
        self._task.add_done_callback(self._ending.discard)
        self._feed = self._ready = self._task = None

    async def _next(self, feed: EventTail, wanted: EventFilter, seen: int) -> EventSlice | None:
        """None: nothing yet."""
        batch = feed.batch_after(seen)
        return await self._behind(wanted, seen) if batch is None else batch.of(wanted, seen=seen)

    async def _behind(self, wanted: EventFilter, seen: int) -> EventSlice | None:
        """For those whose place is not in memory: one after the other. None: nothing yet."""
        async with self._catching_up, asyncio.timeout(READ_SECONDS):
            page = await events.after(self._pool, seen, most=AT_ONCE)
        if page.lost:
            reset = Event(id=page.upto, type=EventType.RESET, at=clock.now(), bot=None, facts={})
            return EventSlice([EncodedEvent(reset)], upto=page.upto)
        for batch in batched(page.events, after=seen, upto=page.upto):
            return batch.of(wanted, seen=seen)
        return None
