"""Broadcasts that fly without a worker: a bot's deliveries beside an idle Telewarm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from telewarm import clock
from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.scheduler import BroadcastScheduler
from telewarm.broadcasts.service import BroadcastService
from telewarm.database import broadcasts
from telewarm.database.connection import Pool
from telewarm.database.leases import ProcessLease
from telewarm.database.notifications import subscribe
from telewarm.models import Broadcast, BroadcastId, BroadcastState, ChatId, Delivery, MessageSet
from telewarm.runtime import Telewarm
from tests.broadcast.stage import TEXT, broadcasts_of

LOOK_AGAIN = 0.05  # seconds between looks at what no notification tells of


@dataclass(kw_only=True, slots=True)
class Process:
    """`lease`: of the process that this stands for."""

    app: Telewarm
    session: BotSession
    lease: ProcessLease
    broadcasts: BroadcastService
    crowded: bool = False

    @property
    def pool(self) -> Pool:
        return self.app.pool

    def deliveries(self, stop: asyncio.Event, *, concurrency: int = 20) -> BroadcastScheduler:
        return BroadcastScheduler(
            pool=self.pool,
            lease=self.lease,
            session=self.session,
            sender=self.app.sender,
            stop=stop,
            has_waiting_lanes=lambda: self.crowded,
            concurrency=concurrency,
        )

    async def draft(
        self, chats: list[ChatId], message: MessageSet = TEXT, *, gate: bool = True, per_second: float | None = None
    ) -> BroadcastId:
        [made] = await self.broadcasts.create([self.session], message, gate=gate, per_second=per_second)
        await self.broadcasts.add(made.id, chats)
        return made.id

    async def started(
        self, chats: list[ChatId], message: MessageSet = TEXT, *, gate: bool = True, per_second: float | None = None
    ) -> BroadcastId:
        broadcast_id = await self.draft(chats, message, gate=gate, per_second=per_second)
        await self.broadcasts.start(broadcast_id)
        return broadcast_id

    async def fly(self, *, concurrency: int = 20) -> float | None:
        """Once, to the end."""
        return await self.deliveries(asyncio.Event(), concurrency=concurrency).run()

    @asynccontextmanager
    async def running(self, *, concurrency: int = 20) -> AsyncIterator[BroadcastScheduler]:
        """In the background, once; at the end it is told to stop."""
        stop = asyncio.Event()
        under_way = self.deliveries(stop, concurrency=concurrency)
        task = asyncio.create_task(under_way.run())
        try:
            yield under_way
        finally:
            stop.set()
            under_way.nudge()
            await task

    async def get(self, broadcast_id: BroadcastId) -> Broadcast:
        return await broadcasts.get(self.pool, broadcast_id)

    async def results(self, broadcast_id: BroadcastId) -> dict[ChatId, Delivery]:
        found = [one async for page in self.broadcasts.results(broadcast_id) for one in page]
        return {one.chat_id: one for one in found}

    async def in_flight(self, broadcast_id: BroadcastId) -> list[int]:
        found: list[int] = await self.pool.fetchval(
            "SELECT in_flight FROM broadcast_run WHERE broadcast_id = $1", broadcast_id
        )
        return found

    async def until(self, broadcast_id: BroadcastId, condition: Callable[[Broadcast], bool]) -> Broadcast:
        """The test's own time limit bounds it."""
        changed = asyncio.Event()
        async with subscribe(self.pool, {broadcasts.CHANNEL: lambda _: changed.set()}, on_lost=changed.set):
            while True:
                changed.clear()
                found = await self.get(broadcast_id)
                if condition(found):
                    return found
                await clock.wait(changed, LOOK_AGAIN)

    async def until_state(self, broadcast_id: BroadcastId, state: BroadcastState) -> Broadcast:
        return await self.until(broadcast_id, lambda found: found.state is state)


@asynccontextmanager
async def broadcast_process(telewarm: Telewarm, session: BotSession) -> AsyncIterator[Process]:
    async with AsyncExitStack() as stack:
        lease = await stack.enter_async_context(ProcessLease.open(telewarm.pool))
        yield Process(app=telewarm, session=session, lease=lease, broadcasts=broadcasts_of(telewarm))
