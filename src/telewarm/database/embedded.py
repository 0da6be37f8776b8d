"""A real PostgreSQL in the data folder, started on first use and shared by every process that names the same folder.

Each process that uses the server holds a shared lock on `users.lock`; who starts or stops it holds `start.lock` alone.
The last one out stops the server. A killed process loses its locks with its life, so nothing is ever miscounted: the
next start finds the server running and uses it, or finds it crashed and lets it recover.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum, auto
from pathlib import Path
from urllib.parse import quote

import asyncpg

from telewarm import clock
from telewarm.database.host import ELSEWHERE, Host
from telewarm.database.locks import FileLock, alone
from telewarm.errors import EmbeddedPostgresFailed

DATABASE_USER = "telewarm"
DATABASE = "postgres"
TURN_SECONDS = 120.0  # for another process to finish starting or stopping the server
INIT_SECONDS = 120.0
START_SECONDS = 60.0  # recovery after a crash included
STOP_SECONDS = 60.0
LOOK_AGAIN = 0.05  # seconds

# --auth=trust is safe: there is no TCP, and only the server's user (and root) can enter the socket's folder.
INIT = (
    *("--auth=trust", f"--username={DATABASE_USER}", "--encoding=UTF8", "--no-instructions"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    *("--set", "max_connections=200", "--set", "timezone=UTC", "--set", "log_timezone=UTC"),
    *("--set", "autovacuum_naptime=10s"),  # instead of a minute: the queue's rows die young
    *("--set", "listen_addresses=", "--set", "unix_socket_permissions=0700", "--set", "log_checkpoints=off"),
)
FORGETFUL = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class _Answer(Enum):
    YES = auto()
    NOT_YET = auto()
    NOBODY = auto()


class EmbeddedPostgres:
    """One process's share of the server. `url` is for asyncpg, psql and anything else that speaks libpq's URLs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._socket = host.socket_folder()
        self._users = FileLock(host.folder / "users.lock")
        self.url = f"postgresql://{DATABASE_USER}@/{DATABASE}?host={quote(str(self._socket))}"

    @classmethod
    async def start(cls, folder: Path, *, durable: bool = True) -> EmbeddedPostgres:
        """Use the server of this folder, `<data folder>/postgres`; makes and starts it first if need be.

        `durable=False` is for tests: a power cut loses the data. It counts for the process that starts the server.
        Raises EmbeddedPostgresFailed with the cure.
        """
        try:
            server = cls(await asyncio.to_thread(Host.prepare, folder))
        except OSError as error:
            raise EmbeddedPostgresFailed(f"The embedded database cannot use {folder} ({error}): {ELSEWHERE}") from error
        try:
            async with server._turn():
                await server._join(durable=durable)
        except BaseException:
            server._users.close()
            raise
        return server

    async def stop(self) -> None:
        """Leave; the last one out stops the server. Nothing happens the second time."""
        if self._users.closed:
            return
        try:
            async with self._turn():
                await self._leave()
        finally:
            self._users.close()

    def _turn(self) -> AbstractAsyncContextManager[None]:
        return alone(self._host.folder / "start.lock", timeout=TURN_SECONDS)

    async def _join(self, *, durable: bool) -> None:
        if not (self._host.cluster / "PG_VERSION").exists():
            await self._initialise(durable=durable)
        self._refuse_another_version()
        first = self._users.take()
        self._users.take(shared=True)
        try:
            await self._run(durable=durable, first=first)
        except BaseException:
            await self._leave()
            raise

    async def _leave(self) -> None:
        if not self._users.take():
            return
        if (self._host.cluster / "postmaster.pid").exists() and await self._answer() is not _Answer.NOBODY:
            await self._host.run(
                *("pg_ctl", "stop", "-D", str(self._host.cluster), "-m", "fast", "-w", "-t", f"{STOP_SECONDS:.0f}"),
                timeout=STOP_SECONDS + 5,
            )

    async def _initialise(self, *, durable: bool) -> None:
        """Whole or not at all: a crash in the middle leaves a folder that nobody takes for data."""
        for leftover in self._host.folder.glob("cluster-new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = self._host.scratch("cluster-new-", within=self._host.folder)
        hurry = () if durable else ("--no-sync",)
        await self._host.run("initdb", "-D", str(scratch), *INIT, *hurry, timeout=INIT_SECONDS)
        scratch.rename(self._host.cluster)

    def _refuse_another_version(self) -> None:
        found = (self._host.cluster / "PG_VERSION").read_text().strip()
        ours = self._host.version.partition(".")[0]
        if found != ours:
            raise EmbeddedPostgresFailed(
                f"The data in {self._host.cluster} was written by PostgreSQL {found}, and this is PostgreSQL {ours}: "
                f"dump it with the Telewarm that wrote it and restore it here, or move the folder away to start afresh"
            )

    async def _run(self, *, durable: bool, first: bool) -> None:
        """Return once the server answers; start it if nobody does."""
        deadline = clock.monotonic() + START_SECONDS
        while (answer := await self._answer()) is not _Answer.YES:
            if clock.monotonic() > deadline:
                raise EmbeddedPostgresFailed(
                    f"The embedded database did not answer within {START_SECONDS:.0f} s. {self._last_words()}"
                )
            if answer is _Answer.NOBODY:
                if first:
                    forget_stale_pid(self._host.cluster)
                await self._launch(durable=durable)
            else:
                await clock.sleep(LOOK_AGAIN)

    async def _launch(self, *, durable: bool) -> None:
        log = self._log
        if log.exists():
            log.replace(log.with_suffix(".old.log"))
        cache = f"shared_buffers={_cache_mib()}MB"
        settings = [f"unix_socket_directories={self._socket}", cache, *(() if durable else FORGETFUL)]
        options = " ".join(f"-c {shlex.quote(setting)}" for setting in settings)
        try:
            await self._host.run(
                *("pg_ctl", "start", "-D", str(self._host.cluster), "-l", str(log), "-o", options),
                *("-w", "-t", f"{START_SECONDS:.0f}"),
                timeout=START_SECONDS + 5,
            )
        except EmbeddedPostgresFailed as error:
            raise EmbeddedPostgresFailed(f"{error}. {self._last_words()}") from error

    @property
    def _log(self) -> Path:
        return self._host.cluster / "server.log"

    def _last_words(self) -> str:
        if not self._log.exists():
            return f"It wrote no log in {self._host.cluster}."
        lines = self._log.read_text(errors="replace").splitlines()[-8:]
        return "The end of its log: " + " | ".join(lines)

    async def _answer(self) -> _Answer:
        try:
            connection = await asyncpg.connect(
                host=str(self._socket), user=DATABASE_USER, database=DATABASE, password="", timeout=5, command_timeout=5
            )
        except asyncpg.CannotConnectNowError:
            return _Answer.NOT_YET  # starting, recovering or shutting down
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            return _Answer.NOBODY
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise EmbeddedPostgresFailed(
                f"The embedded database in {self._host.folder} does not answer: {error}"
            ) from error
        await connection.close(timeout=5)
        return _Answer.YES


@asynccontextmanager
async def served(database_url: str | None, data_folder: Path) -> AsyncIterator[str]:
    """The URL of the database to use: the one given, or the embedded server's, which runs while this is open."""
    if database_url is not None:
        yield database_url
        return
    server = await EmbeddedPostgres.start(data_folder / "postgres")
    try:
        yield server.url
    finally:
        await server.stop()


def forget_stale_pid(cluster: Path) -> None:
    """Remove a dead server's `postmaster.pid` when no process works in its data folder.

    After a restart of the machine or container its number may belong to anybody, and PostgreSQL would refuse to start.
    Without /proc the file is left to PostgreSQL's own check.
    """
    processes = Path("/proc")
    if not (processes / "self").exists():
        return
    for process in processes.glob("[0-9]*/cwd"):
        try:
            if process.readlink() == cluster:
                return
        except OSError:
            continue  # gone, or another user's
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _cache_mib() -> int:
    """An eighth of the machine's memory, from 128 MiB, PostgreSQL's own default, to 1 GiB; taken only as it is used."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return min(max(128, machine // 8), 1024)
