"""What a decoder process gives up before it sees its first file: files, the network, other processes, its rights.

The layers do not rest on each other. A kernel that lacks one leaves the others; which hold is told to the parent, which
logs it. What runs on every system: no environment, no inherited descriptor, bounds of memory, descriptors and written
bytes, and no new processes.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from typing import Final

from telewarm.probe import landlock, seccomp

MEMORY: Final = 1 << 30  # bytes of address space beyond which allocation fails
DESCRIPTORS: Final = 16
SET_DUMPABLE, SET_NO_NEW_PRIVS = 4, 38  # of prctl
NOBODY: Final = 65534  # user and group, where there is no name for them


def bound() -> None:
    """What a process may use, with room to start."""
    _limit(resource.RLIMIT_AS, MEMORY)
    _limit(resource.RLIMIT_CORE, 0)


def close_paths() -> list[str]:
    """The layers that hold for this thread, and for those it starts from now on. All modules must be loaded by now."""
    if sys.platform != "linux" or not _prctl(SET_NO_NEW_PRIVS, 1):
        return []
    return ["no_new_privs", *(["landlock"] if landlock.restrict() else [])]


def isolate() -> list[str]:
    """The layers that hold for the whole process."""
    _limit(resource.RLIMIT_NOFILE, DESCRIPTORS)
    _limit(resource.RLIMIT_FSIZE, 0)
    held = ["rlimits", *(["nobody"] if _become_nobody() else [])]
    _limit(resource.RLIMIT_NPROC, 0)  # no more processes, nor threads: those that decoding needs run by now
    close_memory()
    if sys.platform == "linux" and seccomp.restrict():
        held.append("seccomp")
    return held


def close_memory() -> bool:
    """Let no process of the same user read this one's memory and environment, and none of it get into a core dump."""
    return sys.platform == "linux" and _prctl(SET_DUMPABLE, 0)


def _limit(what: int, most: int) -> None:
    """Never above what holds already."""
    _soft, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with suppress(ValueError, OSError):  # macOS has no limit of address space
        resource.setrlimit(what, (most, most))


def _become_nobody() -> bool:
    """Whether it was root and is not any more."""
    if os.geteuid() != 0:
        return False
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    except OSError:  # a container in which nobody else exists
        return False
    return True


def _prctl(option: int, value: int) -> bool:
    zero = ctypes.c_ulong(0)
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), zero, zero, zero) == 0)
