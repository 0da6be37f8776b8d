"""Landlock: removes this process's access to paths, TCP ports and other processes. Linux 5.13 and newer."""

from __future__ import annotations

import ctypes
import os
from typing import Final

CREATE_RULESET: Final = 444  # these numbers are the same on every architecture
RESTRICT_SELF: Final = 446
ASK_VERSION: Final = 1
FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}  # number of file rights, by version
NETWORK_SINCE: Final = 4
SCOPES_SINCE: Final = 6
ALL_OF_TWO: Final = 3  # bind and connect; abstract sockets and signals


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def restrict() -> bool:
    """Restrict this process. Returns whether the kernel has Landlock. Open files stay open. Needs no_new_privs."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(ASK_VERSION))
    if version < 1:
        return False
    rights = max(count for since, count in FILE_RIGHTS.items() if since <= version)
    ruleset = _Ruleset(
        (1 << rights) - 1,
        ALL_OF_TWO if version >= NETWORK_SINCE else 0,
        ALL_OF_TWO if version >= SCOPES_SINCE else 0,
    )
    fields = 1 + (version >= NETWORK_SINCE) + (version >= SCOPES_SINCE)
    handle = libc.syscall(CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(8 * fields), ctypes.c_uint32(0))
    if handle < 0:
        return False
    try:
        return bool(libc.syscall(RESTRICT_SELF, handle, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(handle)
