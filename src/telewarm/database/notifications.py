"""LISTEN/NOTIFY on one connection of the pool, for any number of subscribers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from asyncpg.pool import PoolConnectionProxy

from telewarm import clock
from telewarm.database.connection import Connection, Pool
from telewarm.database.pool import CHECK, CONNECT_SECONDS, ROUND_TRIP
from telewarm.database.transient import is_transient
from telewarm.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0  # between two looks whether a silent connection still lives
RECONNECT_FIRST, RECONNECT_LONGEST = 0.1, 5.0  # seconds, doubling, with full jitter

Hear = Callable[[str], None]


@asynccontextmanager
async def listening(pool: Pool, heard: Mapping[str, Hear], *, on_lost: Callable[[], None]) -> AsyncIterator[None]:
    """Hand each notification's payload to its channel's function. All who listen on a pool share one connection.

    A lost connection is replaced by itself. `on_lost` runs when it is lost and again when the new one listens:
    whatever was remembered from notifications up to then may be out of date, so forget it. Entering waits until there
    is a connection that listens, and raises DatabaseUnavailable when there is none.
    """
    hub = _HUBS.setdefault(id(pool), NotificationHub(pool))
    listener = Subscription(heard=heard, on_lost=on_lost)
    await hub.join(listener)
    try:
        yield
    finally:
        await hub.leave(listener)


@dataclass(kw_only=True, slots=True, eq=False)
class Subscription:
    """Whoever wants to hear. `told`: it listened already, so it is told of what it may have missed."""

    heard: Mapping[str, Hear]
    on_lost: Callable[[], None]
    told: bool = False


class NotificationHub:
    """The one connection of a pool that listens, as long as anybody wants to hear."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._listeners: list[Subscription] = []
        self._channels: set[str] = set()
        self._connection: PoolConnectionProxy | None = None
        self._turn = asyncio.Lock()  # a connection does one thing at a time
        self._task: asyncio.Task[None] | None = None
        self._listens: asyncio.Future[None] | None = None  # done when all listen, or when that failed at once

    async def join(self, listener: Subscription) -> None:
        """Raises DatabaseUnavailable."""
        self._listeners.append(listener)
        try:
            if self._task is None:
                self._listens = asyncio.get_running_loop().create_future()
                self._task = asyncio.create_task(self._run(self._listens), name="listen")
                await asyncio.shield(self._listens)
            else:
                await self._join_others(listener)
        except BaseException:
            await asyncio.shield(self.leave(listener))
            raise
        listener.told = True

    async def leave(self, listener: Subscription) -> None:
        """The last one takes the connection along."""
        self._listeners.remove(listener)
        if self._listeners or self._task is None:
            return
        _HUBS.pop(id(self._pool), None)  # whoever comes now gets another
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def _join_others(self, listener: Subscription) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if self._listens is not None:
                    await asyncio.shield(self._listens)
                await self._listen_to(listener)
        except Exception as error:
            if not is_transient(error):
                raise
            raise DatabaseUnavailable(f"Cannot listen for notifications: {type(error).__name__}. {CHECK}") from error

    async def _listen_to(self, listener: Subscription) -> None:
        """On the connection that there is; on the next one all channels are heard anyway."""
        async with self._turn:
            connection = self._connection
            if connection is not None:
                await self._add(connection, listener)

    async def _add(self, connection: Connection, listener: Subscription) -> None:
        for channel in listener.heard:
            if channel not in self._channels:
                await connection.add_listener(channel, self._hear)
                self._channels.add(channel)

    def _hear(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        for listener in list(self._listeners):
            hear = listener.heard.get(channel)
            if hear is not None:
                hear(str(payload))

    def _lost(self) -> None:
        for listener in list(self._listeners):
            if listener.told:
                listener.on_lost()

    async def _run(self, listens: asyncio.Future[None]) -> None:
        pause = RECONNECT_FIRST
        while True:
            try:
                async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection, self._subscribed(connection):
                    pause = RECONNECT_FIRST
                    if listens.done():
                        self._lost()
                    else:
                        listens.set_result(None)
                    await self._until_gone(connection)
            except Exception as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # giving the connection back failed on the way out
                    raise asyncio.CancelledError from error
                if not listens.done():
                    listens.set_exception(DatabaseUnavailable(f"Cannot listen for notifications: {error}. {CHECK}"))
                    return
                log.warning(
                    "notification_connection_lost",
                    error=type(error).__name__,
                    retry_in_s=round(pause, 1),
                    exc_info=not is_transient(error),
                )
            self._lost()
            await clock.sleep(random.uniform(0, pause))  # noqa: S311 (jitter)
            pause = min(2 * pause, RECONNECT_LONGEST)

    @asynccontextmanager
    async def _subscribed(self, connection: PoolConnectionProxy) -> AsyncIterator[None]:
        self._channels.clear()
        try:
            async with self._turn:
                for listener in list(self._listeners):
                    await self._add(connection, listener)
                self._connection = connection
            yield
        finally:
            self._connection = None
            try:
                async with self._turn, asyncio.timeout(ROUND_TRIP):
                    for channel in self._channels:
                        await connection.remove_listener(channel, self._hear)
            except Exception:  # noqa: BLE001 - whatever it was, this connection listens no more
                connection.terminate()

    async def _until_gone(self, connection: PoolConnectionProxy) -> None:
        """Returns or raises when the connection is lost, also when the network just went silent."""
        gone = asyncio.Event()

        def tell(_connection: object) -> None:
            gone.set()

        connection.add_termination_listener(tell)
        try:
            while not await clock.wait(gone, LOOK_SECONDS):
                async with self._turn:
                    await connection.execute("SELECT 1", timeout=ROUND_TRIP)
        finally:
            connection.remove_termination_listener(tell)


_HUBS: dict[int, NotificationHub] = {}  # by the pool's id: a hub that is here holds on to its pool
