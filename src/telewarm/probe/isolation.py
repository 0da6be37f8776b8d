"""Isolation of a decoder process before its first file: files, network, other processes, privileges.

The layers are independent. A kernel that lacks one leaves the others; the worker reports those in force, and its parent
logs them. On every system: no environment, no inherited descriptor, limits of memory, descriptors and written bytes, no
new processes.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from typing import Final

from telewarm.probe import landlock, seccomp

MAX_MEMORY_BYTES: Final = 1 << 30  # of address space
MAX_DESCRIPTORS: Final = 16
SET_DUMPABLE, SET_NO_NEW_PRIVS = 4, 38  # options of prctl
NOBODY_ID: Final = 65534  # of user and group, where they have no name


def limit_resources() -> None:
    """Limit the resources of this process, with enough left to start."""
    _limit(resource.RLIMIT_AS, MAX_MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)


def close_paths() -> list[str]:
    """Close all paths for this thread and its future threads, after all imports. Returns the layers in force."""
    if sys.platform != "linux" or not _prctl(SET_NO_NEW_PRIVS, 1):
        return []
    return ["no_new_privs", *(["landlock"] if landlock.restrict() else [])]


def isolate() -> list[str]:
    """Isolate the whole process. Returns the layers in force."""
    _limit(resource.RLIMIT_NOFILE, MAX_DESCRIPTORS)
    _limit(resource.RLIMIT_FSIZE, 0)
    held = ["rlimits", *(["nobody"] if _become_nobody() else [])]
    _limit(resource.RLIMIT_NPROC, 0)  # no more processes or threads: those for decoding are running
    close_memory()
    if sys.platform == "linux" and seccomp.restrict():
        held.append("seccomp")
    return held


def close_memory() -> bool:
    """Hide this process's memory and environment from other processes of the user, and from core dumps."""
    return sys.platform == "linux" and _prctl(SET_DUMPABLE, 0)


def _limit(what: int, most: int) -> None:
    """Set a limit, but never above the present one."""
    _soft, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with suppress(ValueError, OSError):  # macOS has no limit of address space
        resource.setrlimit(what, (most, most))


def _become_nobody() -> bool:
    """Drop root's privileges. Returns whether the process was root before."""
    if os.geteuid() != 0:
        return False
    try:
        os.setgroups([])
        os.setgid(NOBODY_ID)
        os.setuid(NOBODY_ID)
    except OSError:  # a container without other users
        return False
    return True


def _prctl(option: int, value: int) -> bool:
    zero = ctypes.c_ulong(0)
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), zero, zero, zero) == 0)
