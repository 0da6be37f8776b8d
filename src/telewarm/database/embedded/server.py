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
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from enum import Enum, auto
from pathlib import Path
from urllib.parse import quote

import asyncpg

from telewarm import clock, folders
from telewarm.database.embedded.host import SOCKET_NAME, ServerHost, run_to_completion
from telewarm.database.embedded.locks import FileLock, exclusive_lock
from telewarm.database.embedded.owner import OWN_DATABASE_CURE
from telewarm.database.embedded.place import HostMarker
from telewarm.database.embedded.upgrading import undo_interrupted_upgrade
from telewarm.database.embedded.watch import ServerWatchdog
from telewarm.errors import EmbeddedPostgresFailed

DATABASE_USER = "telewarm"
DATABASE = "postgres"
START_LOCK_TIMEOUT_SECONDS = 120.0  # for another process to finish starting or stopping the server
INITDB_TIMEOUT_SECONDS = 120.0
START_TIMEOUT_SECONDS = 60.0  # recovery after a crash included
STOP_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.05  # seconds
MIN_WAIT_SECONDS = 3.0  # for a server that is just starting, or whose last processes are ending
DEAD_SERVER_TIMEOUT_SECONDS = 20.0  # for processes of a dead server to end, or an unreachable one to stop

# --auth=trust is safe: there is no TCP, and only the server's user (and root) can enter the socket's folder.
INITDB_OPTIONS = (
    *("--auth=trust", f"--username={DATABASE_USER}", "--encoding=UTF8", "--no-instructions"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    *("--set", "max_connections=200", "--set", "timezone=UTC", "--set", "log_timezone=UTC"),
    *("--set", "autovacuum_naptime=10s"),  # instead of a minute: the queue's rows die young
    *("--set", "listen_addresses=", "--set", "unix_socket_permissions=0700", "--set", "log_checkpoints=off"),
)
PID_FILE_STATUS_LINE = 7  # of postmaster.pid: starting, ready or stopping
NON_DURABLE_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class ServerStatus(Enum):
    """State of the server."""

    READY = auto()
    STARTING = auto()
    UNREACHABLE = auto()


class EmbeddedPostgres:
    """One process's use of the server. `url`: for asyncpg, psql and other libpq clients."""

    def __init__(self, host: ServerHost) -> None:
        self._host = host
        self._durable = True
        self._socket = host.socket_folder()
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
            server = cls(await asyncio.to_thread(ServerHost.prepare, folder, programs))
        except OSError as error:
            cure = f"choose another folder with TELEWARM_DATA, {OWN_DATABASE_CURE}"
            raise EmbeddedPostgresFailed(folders.describe_os_error(error, folder, cure=cure)) from error
        server._durable = durable
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
            if await self._probe_status() is ServerStatus.READY and not self.is_stopping():
                return False
            if self.is_stopping():
                await self._stop_server()
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
        return await self._probe_status() is not ServerStatus.UNREACHABLE

    def is_stopping(self) -> bool:
        """Return whether the server is stopping: it accepts no connections, and waits for the present ones."""
        lines = self._read_pid_file().splitlines()
        return len(lines) > PID_FILE_STATUS_LINE and lines[PID_FILE_STATUS_LINE].strip() == "stopping"

    def heartbeat(self) -> None:
        """Show other hosts, on whose file system locks may not work, that this folder is in use."""
        self._host_marker.heartbeat()

    def _start_lock(self) -> AbstractAsyncContextManager[None]:
        return exclusive_lock(self._host.folder / "start.lock", timeout_seconds=START_LOCK_TIMEOUT_SECONDS)

    async def _join(self) -> None:
        async with undo_interrupted_upgrade(self._host.folder) as found:
            if found and self._read_pid_file() and await self._probe_status() is not ServerStatus.UNREACHABLE:
                await self._stop_server()
        if not (self._host.cluster_folder / "PG_VERSION").exists():
            await self._init_cluster()
        self._check_version()
        self._users_lock.acquire(shared=True)
        try:
            await self._ensure_running()
        except BaseException:
            await self._leave()
            raise

    async def _leave(self) -> None:
        if not self._users_lock.acquire():
            return
        if self._read_pid_file() and await self._probe_status() is not ServerStatus.UNREACHABLE:
            await self._stop_server()
            self._host_marker.release()

    async def _stop_server(self) -> None:
        await self._host.run(
            *(
                "pg_ctl",
                "stop",
                "-D",
                str(self._host.cluster_folder),
                "-m",
                "fast",
                "-w",
                "-t",
                f"{STOP_TIMEOUT_SECONDS:.0f}",
            ),
            timeout=STOP_TIMEOUT_SECONDS + 5,
        )

    async def _init_cluster(self) -> None:
        """Create the cluster atomically: a crash leaves a folder that counts as none."""
        sync_options = () if self._durable else ("--no-sync",)
        scratch = await run_to_completion(
            lambda: self._host.initdb(*INITDB_OPTIONS, *sync_options, timeout=INITDB_TIMEOUT_SECONDS)
        )
        scratch.rename(self._host.cluster_folder)

    def _check_version(self) -> None:
        found = (self._host.cluster_folder / "PG_VERSION").read_text().strip()
        ours = self._host.version.partition(".")[0]
        if found != ours:
            raise EmbeddedPostgresFailed(
                f"The data in {self._host.cluster_folder} was written by PostgreSQL {found}, and this is "
                f"PostgreSQL {ours}: "
                f"upgrade it with `telewarm upgrade-database --programs FOLDER`, the bin folder of a PostgreSQL "
                f"{found}, or move {self._host.cluster_folder} away and `telewarm restore` a backup"
            )

    async def _ensure_running(self) -> bool:
        """Wait until the server responds; start it if needed. Returns whether it was started here."""
        started = False
        deadline = clock.monotonic() + START_TIMEOUT_SECONDS
        while (answer := await self._probe_status()) is not ServerStatus.READY:
            if clock.monotonic() > deadline:
                raise EmbeddedPostgresFailed(
                    f"The embedded database did not answer within {START_TIMEOUT_SECONDS:.0f} s. {self._log_tail()}"
                )
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
            await self._start_server(lock)
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
            if await self._probe_status() is not ServerStatus.UNREACHABLE:
                return False
            waited = clock.monotonic() - begun
            here = processes_in(self._host.cluster_folder) if waited > MIN_WAIT_SECONDS else []
            if waited > DEAD_SERVER_TIMEOUT_SECONDS or (waited > MIN_WAIT_SECONDS and not here):
                raise EmbeddedPostgresFailed(self._host_marker.in_use_message(self._host.folder))
            if here and not stopped and self._read_pid_file().partition("\n")[0] in here:
                stopped = True
                await self._stop_server()
            await clock.sleep(POLL_SECONDS)
        return True

    async def _start_server(self, lock: FileLock) -> None:
        log = self._log_path
        if log.exists():
            log.replace(log.with_suffix(".old.log"))
        cache = f"shared_buffers={_shared_buffers_mib()}MB"
        forgetful = () if self._durable else NON_DURABLE_SETTINGS
        settings = [f"unix_socket_directories={self._socket}", cache, *forgetful]
        options = " ".join(f"-c {shlex.quote(setting)}" for setting in settings)
        try:
            await self._host.run(
                *("pg_ctl", "start", "-D", str(self._host.cluster_folder), "-l", str(log), "-o", options),
                *("-w", "-t", f"{START_TIMEOUT_SECONDS:.0f}"),
                timeout=START_TIMEOUT_SECONDS + 5,
                pass_fds=(lock.descriptor,),
            )
        except EmbeddedPostgresFailed as error:
            written = self._log_path.read_text(errors="replace") if self._log_path.exists() else ""
            raise EmbeddedPostgresFailed(self._host.explain_failure("postgres", written or str(error))) from error

    @property
    def _server_lock_path(self) -> Path:
        return self._host.folder / "server.lock"

    def _read_pid_file(self) -> str:
        """Return the PID file, empty when there is none."""
        try:
            return (self._host.cluster_folder / "postmaster.pid").read_text()
        except OSError:
            return ""

    @property
    def _log_path(self) -> Path:
        return self._host.cluster_folder / "server.log"

    def _log_tail(self) -> str:
        if not self._log_path.exists():
            return f"It wrote no log in {self._host.cluster_folder}."
        lines = self._log_path.read_text(errors="replace").splitlines()[-8:]
        return "The end of its log: " + " | ".join(lines)

    async def _probe_status(self) -> ServerStatus:
        try:
            connection = await asyncpg.connect(
                host=str(self._socket), user=DATABASE_USER, database=DATABASE, password="", timeout=5, command_timeout=5
            )
        except (asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
            return ServerStatus.STARTING  # starting, recovering or shutting down; or it died just now
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            return ServerStatus.UNREACHABLE
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise EmbeddedPostgresFailed(
                f"The embedded database in {self._host.folder} does not answer: {error}"
            ) from error
        await connection.close(timeout=5)
        return ServerStatus.READY


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


def _shared_buffers_mib() -> int:
    """Return an eighth of the memory, from 128 MiB, PostgreSQL's default, to 1 GiB; allocated only as it is used."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return min(max(128, machine // 8), 1024)
