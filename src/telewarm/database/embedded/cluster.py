"""A PostgreSQL cluster in a folder: its programs are run here, and its status is read."""

from __future__ import annotations

import os
import shlex
from enum import Enum, auto
from pathlib import Path

import asyncpg

from telewarm.database.embedded.host import ServerHost, run_to_completion
from telewarm.database.embedded.locks import FileLock
from telewarm.errors import EmbeddedPostgresFailed

DATABASE_USER = "telewarm"
DATABASE = "postgres"
INITDB_TIMEOUT_SECONDS = 120.0
START_TIMEOUT_SECONDS = 60.0  # recovery after a crash included
STOP_TIMEOUT_SECONDS = 60.0

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


class Cluster:
    """The data folder of one server, and the server in it. Locks are its user's business.

    `durable=False`: a power cut loses the data.
    """

    def __init__(self, host: ServerHost, socket: Path, *, durable: bool) -> None:
        self._host = host
        self._socket = socket
        self._durable = durable

    async def stop(self) -> None:
        """Stop the server; sessions are ended."""
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

    async def create(self) -> None:
        """Create the cluster atomically: a crash leaves a folder that counts as none."""
        sync_options = () if self._durable else ("--no-sync",)
        scratch = await run_to_completion(
            lambda: self._host.initdb(*INITDB_OPTIONS, *sync_options, timeout=INITDB_TIMEOUT_SECONDS)
        )
        scratch.rename(self._host.cluster_folder)

    def check_version(self) -> None:
        """Raises EmbeddedPostgresFailed for data of another major version."""
        found = (self._host.cluster_folder / "PG_VERSION").read_text().strip()
        ours = self._host.version.partition(".")[0]
        if found != ours:
            raise EmbeddedPostgresFailed(
                f"The data in {self._host.cluster_folder} was written by PostgreSQL {found}, and this is "
                f"PostgreSQL {ours}: "
                f"upgrade it with `telewarm upgrade-database --programs FOLDER`, the bin folder of a PostgreSQL "
                f"{found}, or move {self._host.cluster_folder} away and `telewarm restore` a backup"
            )

    async def start(self, lock: FileLock) -> None:
        """Start the server, which inherits `lock`. Raises EmbeddedPostgresFailed with what its log says."""
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

    def read_pid_file(self) -> str:
        """Return the PID file, empty when there is none."""
        try:
            return (self._host.cluster_folder / "postmaster.pid").read_text()
        except OSError:
            return ""

    def is_stopping(self) -> bool:
        """Return whether the server is stopping: it accepts no connections, and waits for the present ones."""
        lines = self.read_pid_file().splitlines()
        return len(lines) > PID_FILE_STATUS_LINE and lines[PID_FILE_STATUS_LINE].strip() == "stopping"

    @property
    def _log_path(self) -> Path:
        return self._host.cluster_folder / "server.log"

    def log_tail(self) -> str:
        """Return the end of the server's log, for an error."""
        if not self._log_path.exists():
            return f"It wrote no log in {self._host.cluster_folder}."
        lines = self._log_path.read_text(errors="replace").splitlines()[-8:]
        return "The end of its log: " + " | ".join(lines)

    async def is_running(self) -> bool:
        """Return whether there is a server that responds, be it that it is still starting."""
        return bool(self.read_pid_file()) and await self.probe_status() is not ServerStatus.UNREACHABLE

    async def probe_status(self) -> ServerStatus:
        """Connect, and return what that says. Raises EmbeddedPostgresFailed for an unexpected answer."""
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


def _shared_buffers_mib() -> int:
    """Return an eighth of the memory, from 128 MiB, PostgreSQL's default, to 1 GiB; allocated only as it is used."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return min(max(128, machine // 8), 1024)
