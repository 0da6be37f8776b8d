"""LISTEN/NOTIFY on one connection of a pool, for any number of subscribers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from asyncpg.pool import PoolConnectionProxy

from telewarm import clock
from telewarm.database.connection import Connection, Executor, Pool
from telewarm.database.pool import CONNECT_TIMEOUT_SECONDS, CONNECTION_CURE, ROUND_TRIP_SECONDS
from telewarm.database.transient import is_transient
from telewarm.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

KEEPALIVE_SECONDS = 10.0  # between two looks whether a silent connection still lives
MIN_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS = 0.1, 5.0  # seconds, doubling, with full jitter

OnNotification = Callable[[str], None]


async def notify(db: Executor, channel: str, payloads: Sequence[str]) -> None:
    """Send notifications, all in one statement."""
    await db.execute("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload", channel, payloads)


@asynccontextmanager
async def subscribe(
    pool: Pool, handlers: Mapping[str, OnNotification], *, on_lost: Callable[[], None]
) -> AsyncIterator[None]:
    """Call a handler with each payload of its channel. All subscribers of a pool share one connection.

    A lost connection is replaced automatically. `on_lost` is called when it is lost, and again when the new one
    listens: state kept by notifications may be outdated, so drop it. Waits until the connection listens; raises
    DatabaseUnavailable when there is none.
    """
    hub = _HUBS.setdefault(id(pool), NotificationHub(pool))
    listener = Subscription(handlers=handlers, on_lost=on_lost)
    await hub.add(listener)
    try:
        yield
    finally:
        await hub.remove(listener)


@dataclass(kw_only=True, slots=True, eq=False)
class Subscription:
    """A subscriber. `is_listening`: it listened before, so it has to learn that it may have missed something."""

    handlers: Mapping[str, OnNotification]
    on_lost: Callable[[], None]
    is_listening: bool = False


class NotificationHub:
    """The listening connection of a pool, open while there are subscribers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._subscriptions: list[Subscription] = []
        self._channels: set[str] = set()
        self._connection: PoolConnectionProxy | None = None
        self._connection_lock = asyncio.Lock()  # a connection does one thing at a time
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Future[None] | None = None  # done when all listen, or when that failed at once

    async def add(self, subscription: Subscription) -> None:
        """Add a subscriber. Raises DatabaseUnavailable."""
        self._subscriptions.append(subscription)
        try:
            if self._task is None:
                self._listening = asyncio.get_running_loop().create_future()
                self._task = asyncio.create_task(self._run(self._listening), name="listen")
                await asyncio.shield(self._listening)
            else:
                await self._add_to_running(subscription)
        except BaseException:
            await asyncio.shield(self.remove(subscription))
            raise
        subscription.is_listening = True

    async def remove(self, subscription: Subscription) -> None:
        """Remove a subscriber. The last one closes the connection."""
        self._subscriptions.remove(subscription)
        if self._subscriptions or self._task is None:
            return
        _HUBS.pop(id(self._pool), None)  # whoever comes now gets another
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def _add_to_running(self, subscription: Subscription) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                if self._listening is not None:
                    await asyncio.shield(self._listening)
                await self._listen_for(subscription)
        except Exception as error:
            if not is_transient(error):
                raise
            raise DatabaseUnavailable(
                f"Cannot listen for notifications: {type(error).__name__}. {CONNECTION_CURE}"
            ) from error

    async def _listen_for(self, subscription: Subscription) -> None:
        """Listen on the present connection; the next one listens on all channels in any case."""
        async with self._connection_lock:
            connection = self._connection
            if connection is not None:
                await self._add_channels(connection, subscription)

    async def _add_channels(self, connection: Connection, subscription: Subscription) -> None:
        for channel in subscription.handlers:
            if channel not in self._channels:
                await connection.add_listener(channel, self._on_notification)
                self._channels.add(channel)

    def _on_notification(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        for listener in list(self._subscriptions):
            hear = listener.handlers.get(channel)
            if hear is not None:
                hear(str(payload))

    def _call_on_lost(self) -> None:
        for listener in list(self._subscriptions):
            if listener.is_listening:
                listener.on_lost()

    async def _run(self, listening: asyncio.Future[None]) -> None:
        pause = MIN_RECONNECT_SECONDS
        while True:
            try:
                async with (
                    self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection,
                    self._subscribed(connection),
                ):
                    pause = MIN_RECONNECT_SECONDS
                    if listening.done():
                        self._call_on_lost()
                    else:
                        listening.set_result(None)
                    await self._wait_until_lost(connection)
            except Exception as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # giving the connection back failed on the way out
                    raise asyncio.CancelledError from error
                if not listening.done():
                    listening.set_exception(
                        DatabaseUnavailable(f"Cannot listen for notifications: {error}. {CONNECTION_CURE}")
                    )
                    return
                log.warning(
                    "notification_connection_lost",
                    error=type(error).__name__,
                    retry_in_s=round(pause, 1),
                    exc_info=not is_transient(error),
                )
            self._call_on_lost()
            await clock.sleep(random.uniform(0, pause))  # noqa: S311 (jitter)
            pause = min(2 * pause, MAX_RECONNECT_SECONDS)

    @asynccontextmanager
    async def _subscribed(self, connection: PoolConnectionProxy) -> AsyncIterator[None]:
        self._channels.clear()
        try:
            async with self._connection_lock:
                for listener in list(self._subscriptions):
                    await self._add_channels(connection, listener)
                self._connection = connection
            yield
        finally:
            self._connection = None
            try:
                async with self._connection_lock, asyncio.timeout(ROUND_TRIP_SECONDS):
                    for channel in self._channels:
                        await connection.remove_listener(channel, self._on_notification)
            except Exception:  # noqa: BLE001 - whatever it was, this connection listens no more
                connection.terminate()

    async def _wait_until_lost(self, connection: PoolConnectionProxy) -> None:
        """Wait until the connection is lost, even if the network silently dropped it."""
        gone = asyncio.Event()

        def tell(_connection: object) -> None:
            """Set the event of a lost connection."""
            gone.set()

        connection.add_termination_listener(tell)
        try:
            while not await clock.wait(gone, KEEPALIVE_SECONDS):
                async with self._connection_lock:
                    await connection.execute("SELECT 1", timeout=ROUND_TRIP_SECONDS)
        finally:
            connection.remove_termination_listener(tell)


_HUBS: dict[int, NotificationHub] = {}  # by the pool's id: a hub that is here holds on to its pool
