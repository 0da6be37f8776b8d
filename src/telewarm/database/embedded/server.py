"""Server of the embedded PostgreSQL, started on first use and shared by all processes with the same folder.

Each process that uses the server holds a shared lock on `users.lock`; starting and stopping needs `start.lock`. The
last user stops the server. A killed process loses its locks, so the users are never miscounted: the next start uses the
running server, or starts a crashed one and lets it recover. A server that dies in use is restarted by one of its users
(see `ServerWatchdog`).

The server itself holds `server.lock`, inherited from the process that starts it, while any of its processes lives: no
second one is ever started on the same data, from another container or host either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from telewarm import clock, folders
from telewarm.database.embedded.cluster import DATABASE, DATABASE_USER, START_TIMEOUT_SECONDS, Cluster, ServerStatus
from telewarm.database.embedded.host import SOCKET_NAME, ServerHost
from telewarm.database.embedded.locks import FileLock, exclusive_lock
from telewarm.database.embedded.owner import OWN_DATABASE_CURE
from telewarm.database.embedded.place import HostMarker
from telewarm.database.embedded.upgrading import undo_interrupted_upgrade
from telewarm.database.embedded.watch import ServerWatchdog
from telewarm.errors import EmbeddedPostgresFailed

START_LOCK_TIMEOUT_SECONDS = 120.0  # for another process to finish starting or stopping the server
POLL_SECONDS = 0.05  # seconds
MIN_WAIT_SECONDS = 3.0  # for a server that is just starting, or whose last processes are ending
DEAD_SERVER_TIMEOUT_SECONDS = 20.0  # for processes of a dead server to end, or an unreachable one to stop


class EmbeddedPostgres:
    """One process's use of the server. `url`: for asyncpg, psql and other libpq clients."""

    def __init__(self, host: ServerHost, *, durable: bool) -> None:
        self._host = host
        self._socket = host.socket_folder()
        self._cluster = Cluster(host, self._socket, durable=durable)
        self._host_marker = HostMarker(host.folder / "server.host")
        self._users_lock = FileLock(host.folder / "users.lock")
        self.url = f"postgresql://{DATABASE_USER}@/{DATABASE}?host={quote(str(self._socket))}"

    @classmethod
    async def start(cls, folder: Path, *, durable: bool = True, programs: Path | None = None) -> EmbeddedPostgres:
        """Use the server of this folder, `<data folder>/postgres`; create and start it if needed.

        `durable=False` is for tests: a power cut loses the data. It applies when this process starts the server.
        `programs`: of another major version, for its data. Raises EmbeddedPostgresFailed with the remedy.
        """
        try:
            server = cls(await asyncio.to_thread(ServerHost.prepare, folder, programs), durable=durable)
        except OSError as error:
            cure = f"choose another folder with TELEWARM_DATA, {OWN_DATABASE_CURE}"
            raise EmbeddedPostgresFailed(folders.describe_os_error(error, folder, cure=cure)) from error
        try:
            async with server._start_lock():
                await server._join()
        except OSError as error:
            server._users_lock.close()
            raise EmbeddedPostgresFailed(folders.describe_os_error(error, folder)) from error
        except BaseException:
            server._users_lock.close()
            raise
        return server

    async def stop(self) -> None:
        """Stop using the server; the last user stops it. May be repeated."""
        if self._users_lock.closed:
            return
        try:
            async with self._start_lock():
                await self._leave()
        finally:
            self._users_lock.close()

    async def restart_if_dead(self) -> bool:
        """Restart a dead or unreachable server. Returns whether this process did.

        Raises EmbeddedPostgresFailed, OSError.
        """
        async with self._start_lock():
            if await self._cluster.probe_status() is ServerStatus.READY and not self._cluster.is_stopping():
                return False
            if self._cluster.is_stopping():
                await self._cluster.stop()
            await asyncio.to_thread(self._host.socket_folder)  # somebody may have cleaned /tmp
            return await self._ensure_running()

    def seems_dead(self) -> bool:
        """Check cheaply, without a connection: no process of the server lives, or its socket is missing."""
        if not (self._socket / SOCKET_NAME).exists():
            return True
        lock = FileLock(self._server_lock_path)
        try:
            return lock.acquire(shared=True)
        finally:
            lock.close()

    async def is_reachable(self) -> bool:
        """Return whether the socket accepts connections, even while the server is starting."""
        return await self._cluster.probe_status() is not ServerStatus.UNREACHABLE

    def is_stopping(self) -> bool:
        """Return whether the server is stopping: it accepts no connections, and waits for the present ones."""
        return self._cluster.is_stopping()

    def heartbeat(self) -> None:
        """Show other hosts, on whose file system locks may not work, that this folder is in use."""
        self._host_marker.heartbeat()

    def _start_lock(self) -> AbstractAsyncContextManager[None]:
        return exclusive_lock(self._host.folder / "start.lock", timeout_seconds=START_LOCK_TIMEOUT_SECONDS)

    async def _join(self) -> None:
        async with undo_interrupted_upgrade(self._host.folder) as found:
            if found and await self._cluster.is_running():
                await self._cluster.stop()
        if not (self._host.cluster_folder / "PG_VERSION").exists():
            await self._cluster.create()
        self._cluster.check_version()
        self._users_lock.acquire(shared=True)
        try:
            await self._ensure_running()
        except BaseException:
            await self._leave()
            raise

    async def _leave(self) -> None:
        if not self._users_lock.acquire():
            return
        if await self._cluster.is_running():
            await self._cluster.stop()
            self._host_marker.release()

    async def _ensure_running(self) -> bool:
        """Wait until the server responds; start it if needed. Returns whether it was started here."""
        started = False
        deadline = clock.monotonic() + START_TIMEOUT_SECONDS
        while (answer := await self._cluster.probe_status()) is not ServerStatus.READY:
            if clock.monotonic() > deadline:
                late = f"The embedded database did not answer within {START_TIMEOUT_SECONDS:.0f} s"
                raise EmbeddedPostgresFailed(f"{late}. {self._cluster.log_tail()}")
            if answer is ServerStatus.UNREACHABLE:
                started = await self._start_if_dead() or started
            else:
                await clock.sleep(POLL_SECONDS)
        return started

    async def _start_if_dead(self) -> bool:
        """Start a dead server. Returns False when it responds after all."""
        lock = FileLock(self._server_lock_path)
        try:
            if not await self._lock_dead_server(lock):
                return False
            await self._host_marker.claim()
            remove_stale_files(self._host.cluster_folder, self._socket)
            await self._cluster.start(lock)
        finally:
            lock.close()
        return True

    async def _lock_dead_server(self, lock: FileLock) -> bool:
        """Acquire the server's lock once its processes are gone.

        An unreachable server of this machine is stopped, one elsewhere refused. Returns False when it responds after
        all.
        """
        begun, stopped = clock.monotonic(), False
        while not lock.acquire():
            if await self._cluster.probe_status() is not ServerStatus.UNREACHABLE:
                return False
            waited = clock.monotonic() - begun
            here = processes_in(self._host.cluster_folder) if waited > MIN_WAIT_SECONDS else []
            if waited > DEAD_SERVER_TIMEOUT_SECONDS or (waited > MIN_WAIT_SECONDS and not here):
                raise EmbeddedPostgresFailed(self._host_marker.in_use_message(self._host.folder))
            if here and not stopped and self._cluster.read_pid_file().partition("\n")[0] in here:
                stopped = True
                await self._cluster.stop()
            await clock.sleep(POLL_SECONDS)
        return True

    @property
    def _server_lock_path(self) -> Path:
        return self._host.folder / "server.lock"


@asynccontextmanager
async def database_url_for(database_url: str | None, data_folder: Path) -> AsyncIterator[str]:
    """Yield the database URL: the given one, or that of the embedded server, which runs in the block."""
    if database_url is not None:
        yield database_url
        return
    server = await EmbeddedPostgres.start(data_folder / "postgres")
    try:
        async with ServerWatchdog(server).running():
            yield server.url
    finally:
        await server.stop()


def remove_stale_files(cluster: Path, socket: Path) -> None:
    """Remove the PID file of a dead server, when no process works in its data folder.

    Its number may belong to another process by now, or to a zombie, or the folder is a copy of a running one:
    PostgreSQL would refuse to start. Without /proc the file is left to PostgreSQL's own check.
    """
    if Path("/proc/self").exists() and not processes_in(cluster):
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        (socket / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def processes_in(cluster: Path) -> list[str]:
    """Return the visible processes that work in this data folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # gone, or another user's
            if process.readlink() == cluster:
                found.append(process.parent.name)
    return found
