"""System user of the embedded PostgreSQL.

PostgreSQL refuses to run as root. Root therefore lends it another user: the owner of existing data, else the account
`telewarm` if somebody created one, else a user number without an account. No account is created.
"""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from telewarm.errors import EmbeddedPostgresFailed

SYSTEM_ACCOUNT = "telewarm"  # taken when it exists
CANDIDATE_USER_IDS = range(
    58_217, 58_317
)  # user numbers that hardly anybody gives away; the first without an account is taken
INITDB_ACCOUNT = "nobody"  # initdb insists on an account; the server does not
OWN_DATABASE_CURE = "or set DATABASE_URL to a PostgreSQL of your own"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessOwner:
    """Owner of the data, who runs the server. `is_system_user`: another user than the caller, which is root."""

    uid: int
    gid: int
    is_system_user: bool

    @property
    def name(self) -> str:
        """Name of the account, or the number."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"number {self.uid}"

    def can_traverse(self, folder: Path) -> bool:
        """Return whether the permission bits let the owner traverse this folder."""
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    def first_blocked_folder(self, folder: Path) -> Path | None:
        """Return the first folder on the way to `folder`, itself included, that the owner may not traverse."""
        way = [*reversed(folder.parents), folder]
        return next((step for step in way if not self.can_traverse(step)), None)


def find_owner(folder: Path) -> ProcessOwner:
    """Return the owner for a folder, `<data folder>/postgres`."""
    data = _stat(folder / "cluster")
    if os.geteuid() != 0:
        _check_owner(folder, data or _stat(folder))
        return ProcessOwner(uid=os.geteuid(), gid=os.getegid(), is_system_user=False)
    for found in (data, _stat(folder.parent)):
        if found is not None and found.st_uid != 0:
            return ProcessOwner(uid=found.st_uid, gid=found.st_gid, is_system_user=True)
    with suppress(KeyError):
        entry = pwd.getpwnam(SYSTEM_ACCOUNT)
        return ProcessOwner(uid=entry.pw_uid, gid=entry.pw_gid, is_system_user=True)
    free = next(number for number in CANDIDATE_USER_IDS if not _has_account(number))
    return ProcessOwner(uid=free, gid=free, is_system_user=True)


def initdb_user(owner: ProcessOwner) -> int:
    """Return the user for initdb, which requires an account; its files are given to the owner afterwards."""
    if _has_account(owner.uid):
        return owner.uid
    if not owner.is_system_user:
        raise EmbeddedPostgresFailed(
            f"The user with the number {owner.uid} has no account on this system, which the embedded database needs "
            f"once, when it is created: run it as a user that has one, add it to /etc/passwd, {OWN_DATABASE_CURE}"
        )
    with suppress(KeyError):
        return pwd.getpwnam(INITDB_ACCOUNT).pw_uid
    try:
        return next(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0)
    except StopIteration:
        raise EmbeddedPostgresFailed(
            "The embedded database does not run as root, and there is no other account on this system: "
            f"add one (useradd --system {SYSTEM_ACCOUNT}), {OWN_DATABASE_CURE}"
        ) from None


def _check_owner(folder: Path, data: os.stat_result | None) -> None:
    if data is not None and data.st_uid != os.geteuid():
        whose = ProcessOwner(uid=data.st_uid, gid=data.st_gid, is_system_user=True).name
        raise EmbeddedPostgresFailed(
            f"The embedded database in {folder} belongs to the user {whose}: run Telewarm as that user, or choose "
            "another folder with TELEWARM_DATA"
        )


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _has_account(number: int) -> bool:
    try:
        pwd.getpwuid(number)
    except KeyError:
        return False
    return True
