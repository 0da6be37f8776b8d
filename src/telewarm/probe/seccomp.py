"""Seccomp: a decoder's system calls pass, others fail, and those of an attacker kill the process.

Needs Linux on x86-64 or 64-bit ARM. The numbers are those of the kernel's tables.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from typing import Final

SET_FILTER, ALL_THREADS = 1, 1
LOAD, EQUAL, AT_LEAST, SET_BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of classic BPF, on words
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in the filter's input
ALLOW, END, FAIL = 0x7FFF0000, 0x80000000, 0x00050000  # FAIL is combined with an error number
EPERM, ENOSYS = 1, 38
FOREIGN: Final = 0x40000000  # numbers of x86-64's second, unused table
EMPTY_PATH: Final = 0x1000
THREAD: Final = 0x10000
OWNER: Final = 0x8  # bit of the fcntl commands that choose the receiver and the kind of a signal


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """System calls of an architecture.

    `own`: allowed for this process alone. `stat`: for a descriptor, not for a path. `clone`: for a thread, not for a
    process. `fcntl`: not for sending signals.
    """

    audit: int
    seccomp: int
    allowed: tuple[int, ...]
    own: tuple[int, ...]
    stat: int
    clone: int
    clone3: int
    fcntl: int
    fatal: tuple[int, ...]


TABLES: Final = {
    "x86_64": _Table(
        audit=0xC000003E,
        seccomp=317,
        # read write close fstat poll lseek mmap mprotect munmap brk, signals, pread readv writev select
        allowed=(
            *(0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 23, 24, 25, 28, 32, 34, 35, 36, 38, 39),
            # recvfrom recvmsg exit uname fcntl times ids sigaltstack gettid futex affinity clocks
            *(45, 47, 60, 63, 96, 98, 99, 100, 102, 104, 107, 108, 131, 186, 202, 204, 219, 228, 229, 230, 231),
            # pselect ppoll robust lists preadv getrandom membarrier preadv2 rseq
            *(270, 271, 273, 274, 295, 318, 324, 327, 334),
        ),
        own=(62, 234),
        stat=262,
        clone=56,
        clone3=435,
        fcntl=72,
        # socket connect bind listen, execve, ptrace, mount, modules, keys, namespaces, perf, memory of other processes,
        # bpf, execveat, userfaultfd, io_uring, pidfd
        fatal=(41, 42, 49, 50, 59, 101, 165, 175, 248, 250, 272, 298, 308, 310, 311, 313, 321, 322, 323, 425, 434, 438),
    ),
    "aarch64": _Table(
        audit=0xC00000B7,
        seccomp=277,
        allowed=(
            *(23, 57, 62, 63, 64, 65, 66, 67, 69, 72, 73, 80, 93, 94, 98, 99, 100, 101, 102, 103, 113, 114, 115),
            *(123, 124, 128, 132, 133, 134, 135, 136, 137, 139, 153, 160, 165, 169, 172, 174, 175, 176, 177, 178, 179),
            *(207, 212, 214, 215, 216, 222, 226, 233, 278, 283, 286, 293),
        ),
        own=(129, 131),
        stat=79,
        clone=220,
        clone3=435,
        fcntl=25,
        fatal=(
            40,
            97,
            105,
            117,
            198,
            200,
            201,
            203,
            217,
            219,
            221,
            241,
            268,
            270,
            271,
            273,
            280,
            281,
            282,
            425,
            434,
            438,
        ),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def restrict() -> bool:
    """Install the filter for all threads. Returns whether it is in force. Needs no_new_privs."""
    table = TABLES.get(platform.machine())
    if table is None:
        return False
    code = program(table, process=os.getpid())
    held = ctypes.create_string_buffer(code, len(code))
    given = _Program(len(code) // 8, ctypes.cast(held, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(table.seccomp, ctypes.c_uint(SET_FILTER), ctypes.c_uint(ALL_THREADS), ctypes.byref(given))
    return bool(answer == 0)


def program(table: _Table, *, process: int) -> bytes:
    """Return the filter in BPF. A test that holds continues with the next step; one that fails skips some."""
    code = [
        _step(LOAD, ARCHITECTURE),
        _step(EQUAL, table.audit, otherwise=0, then=1),
        _step(RETURN, END),
        _step(LOAD, NUMBER),
        _step(AT_LEAST, FOREIGN, otherwise=1),
        _step(RETURN, END),
    ]
    for number in table.fatal:
        code += [_step(EQUAL, number, otherwise=1), _step(RETURN, END)]
    for number in table.own:
        code += _only(number, argument=0, test=EQUAL, value=process)
    code += _only(table.stat, argument=3, test=SET_BITS, value=EMPTY_PATH)
    code += _only(table.clone, argument=0, test=SET_BITS, value=THREAD)
    code += _only(table.fcntl, argument=1, test=SET_BITS, value=OWNER, otherwise=True)
    code += [_step(EQUAL, table.clone3, otherwise=1), _step(RETURN, FAIL + ENOSYS)]  # libc falls back to the older call
    for number in table.allowed:
        code += [_step(EQUAL, number, otherwise=1), _step(RETURN, ALLOW)]
    return b"".join([*code, _step(RETURN, FAIL + EPERM)])


def _only(number: int, *, argument: int, test: int, value: int, otherwise: bool = False) -> list[bytes]:
    """Filter one system call by an argument; `otherwise`: when the test fails."""
    so, not_so = (FAIL + EPERM, ALLOW) if otherwise else (ALLOW, FAIL + EPERM)
    return [
        _step(EQUAL, number, otherwise=4),
        _step(LOAD, ARGUMENTS + 8 * argument),
        _step(test, value, otherwise=1),
        _step(RETURN, so),
        _step(RETURN, not_so),
    ]


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)
