"""What a decoder that was taken over can do: nothing. Each attempt is made in a real worker process."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from telewarm.demo.media import DemoFile
from telewarm.errors import DecoderFailed
from telewarm.probe import Probe
from telewarm.probe.ipc import reader
from telewarm.probe.pool import ISOLATION_LAYERS
from telewarm.probe.seccomp import ALLOW, END, FAIL, TABLES, program
from tests.fixtures.decoders import around_open, broken_open

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is of Linux")

LIBC = "__import__('ctypes').CDLL(None)"
ATTEMPTS = {
    "read the environment of the parent": "open('/proc/%d/environ' % os.getppid(), 'rb').read()",
    "read the parent's memory": "open('/proc/%d/mem' % os.getppid(), 'rb').read(1)",
    "read the memory by a system call": f"{LIBC}.process_vm_readv(os.getppid(), None, 0, None, 0, 0)",
    "trace the parent": f"{LIBC}.ptrace(16, os.getppid(), 0, 0)",
    "read the key": "open({folder!r} + '/encryption.key').read()",
    "read its own environment": "open('/proc/self/environ', 'rb').read()",
    "open its own descriptor again": "open('/proc/self/fd/0', 'rb').read(1)",
    "look for the key": "os.stat({folder!r} + '/encryption.key')",
    "list a folder": "os.listdir('/')",
    "leave its folder": "os.chdir({folder!r})",
    "write a file": "open({folder!r} + '/written', 'w').write('x')",
    "write to /tmp": "open('/tmp/telewarm-written-by-a-decoder', 'w').write('x')",
    "make a folder": "os.mkdir({folder!r} + '/written')",
    "delete the key": "os.unlink({folder!r} + '/encryption.key')",
    "rename the key": "os.rename({folder!r} + '/encryption.key', {folder!r} + '/written')",
    "make a link": "os.symlink('/etc/passwd', {folder!r} + '/written')",
    "open the key to all": "os.chmod({folder!r} + '/encryption.key', 0o777)",
    "connect by TCP": "socket.socket().connect(('127.0.0.1', {port}))",
    "connect to the database's socket": "socket.socket(socket.AF_UNIX).connect({folder!r} + '/database')",
    "listen": "socket.create_server(('127.0.0.1', 0))",
    "send by UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "send over the socket of its jobs": "socket.socket(fileno=os.dup(0)).send(b'x')",
    "become another program": "os.execv('/bin/sh', ['sh', '-c', 'true'])",
    "start another program": "os.posix_spawn('/bin/sh', ['sh', '-c', 'true'], {{}})",
    "run a command": "assert os.system('true') == 0",
    "fork": "os.fork()",
    "fork again and again": "[os.fork() for _ in range(1000)]",
    "signal the parent": "os.kill(os.getppid(), 0)",
    "have the kernel signal the parent": "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
    "choose the signal of a descriptor": "import fcntl; fcntl.fcntl(0, 10, 9)",
    "start a thread": "import threading; threading.Thread(target=print).start()",
    "signal everybody": "os.kill(-1, 0)",
    "become root": "os.setuid(0) if os.getuid() else os.setgroups([0])",
    "have a namespace of its own": f"assert {LIBC}.unshare(0x10000000) == 0",
}


@pytest.fixture
def secrets(tmp_path: Path) -> Iterator[dict[str, object]]:
    """A data folder with a key and a socket, both open to all, so that the isolation alone is in the way."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o777)
    (folder / "encryption.key").write_text("5eed")
    for path in (folder, folder / "encryption.key", *tmp_path.parents[:2], tmp_path):
        path.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as database, socket.create_server(("127.0.0.1", 0)) as server:
        database.bind(f"{folder}/database")
        database.listen()
        server.settimeout(0)
        yield {"folder": str(folder), "port": server.getsockname()[1]}
        with pytest.raises(BlockingIOError):
            server.accept()


def held_in(secrets: dict[str, object]) -> list[tuple[str, int]]:
    """What can be changed, with its mode."""
    places = [*Path(str(secrets["folder"])).iterdir(), *Path("/tmp").glob("telewarm-written-*")]  # noqa: S108
    return sorted((str(path), path.stat().st_mode) for path in places)


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
async def test_a_decoder_that_was_taken_over_may_do_nothing_but_decode(
    demo_files: dict[str, DemoFile], tmp_path: Path, secrets: dict[str, object], attempt: str
) -> None:
    statement = f"import os, socket; {attempt.format(**secrets)}; raise RuntimeError('it worked')"
    before = held_in(secrets)
    async with Probe.open(workers=1) as probe:
        with broken_open(tmp_path, statement), capture_logs() as logs, pytest.raises(DecoderFailed) as failed:
            await probe.facts(demo_files["note.ogg"].path)  # which is told as no fault of the file
        assert failed.value.failure == "SIGSYS" or "Error" in failed.value.failure
        assert "it worked" not in failed.value.failure
        assert [entry["log_level"] for entry in logs] == ["error"]
    assert held_in(secrets) == before


def status_of(process: psutil.Process) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def test_every_layer_holds_here(probe: Probe, demo_files: dict[str, DemoFile]) -> None:
    with capture_logs() as logs:
        await probe.facts(demo_files["note.ogg"].path)
    assert logs == []
    assert probe._pool.isolation == ISOLATION_LAYERS | ({"nobody"} if os.geteuid() == 0 else set())
    [worker] = [child for child in psutil.Process().children() if "telewarm.probe.worker" in child.cmdline()]
    status = status_of(worker)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert int(status["CapEff"], 16) == 0
    if os.geteuid() == 0:
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert status["Groups"].split() == []
    limits = Path(f"/proc/{worker.pid}/limits").read_text()  # noqa: ASYNC240
    assert re.search(r"Max file size +0 +0 +bytes", limits)
    assert re.search(r"Max processes +0 +0 +processes", limits)
    assert re.search(r"Max open files +16 +16 +files", limits)
    assert re.search(rf"Max address space +{1 << 30} +{1 << 30} +bytes", limits)
    assert [Path(file.path).name for file in worker.open_files()] == []


@pytest.mark.parametrize(
    "lacking",
    [
        "import telewarm.probe.seccomp as lacking; lacking.TABLES.clear()",
        "import telewarm.probe.landlock as lacking; lacking.restrict = lambda: False",
        "import telewarm.probe.isolation as lacking; lacking._prctl = lambda *_: False; lacking.seccomp.TABLES.clear()",
    ],
    ids=["an unknown processor", "a kernel without Landlock", "a system without any of it"],
)
async def test_where_a_layer_is_lacking_the_others_hold_and_files_are_read(
    demo_files: dict[str, DemoFile], tmp_path: Path, lacking: str
) -> None:
    with around_open(tmp_path, before=lacking), capture_logs() as logs:
        async with Probe.open(workers=1) as probe:
            assert (await probe.facts(demo_files["film.mp4"].path)).video_codec == "h264"
    [reported] = logs
    assert (reported["event"], reported["log_level"]) == ("decoder_isolation_incomplete", "info")
    assert "rlimits" in reported["held"]
    assert reported["missing"]


async def test_a_decoder_reads_what_the_user_may_read_and_needs_no_right_itself(
    probe: Probe, demo_files: dict[str, DemoFile], tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    path = closed / "film.mp4"
    path.write_bytes(demo_files["film.mp4"].path.read_bytes())
    path.chmod(0o600)
    facts = await probe.facts(path)
    assert facts.video_codec == "h264"
    assert await probe.thumbnail(path, facts)


def test_readers_of_one_descriptor_do_not_move_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    with path.open("rb") as file:
        one, other = reader(file.fileno()), reader(file.fileno())
        assert one.seek(-6, os.SEEK_END) == 255_994
        assert other.read(3) == b"\0\1\2"
        assert one.read() == bytes(range(250, 256))
        assert (other.tell(), other.seek(2, os.SEEK_CUR), other.read(1)) == (3, 5, b"\5")
        assert one.read(1) == b""
        with pytest.raises(ValueError, match="before the beginning"):
            one.seek(-1)


@pytest.mark.parametrize("machine", TABLES)
def test_a_filter_fails_what_it_does_not_know_and_ends_who_speaks_another_processors_language(machine: str) -> None:
    table = TABLES[machine]
    code = program(table, process=4711)
    for number in table.allowed:
        assert answer(code, table.audit, number) == ALLOW
    for number in table.fatal:
        assert answer(code, table.audit, number) == END
    for number in table.own:
        assert (answer(code, table.audit, number, 4711), answer(code, table.audit, number, 1)) == (ALLOW, FAIL + 1)
    assert answer(code, table.audit, table.stat, 0, 0, 0, 0x1000) == ALLOW
    assert answer(code, table.audit, table.stat, 0, 0, 0, 0) == FAIL + 1
    for command in (0, 1, 2, 3, 4, 1030):  # duplicate, flags
        assert answer(code, table.audit, table.fcntl, 0, command) == ALLOW
    for command in (8, 10, 15):  # F_SETOWN, F_SETSIG, F_SETOWN_EX
        assert answer(code, table.audit, table.fcntl, 0, command) == FAIL + 1
    assert answer(code, table.audit, table.clone, 0x3D0F00) == ALLOW
    assert answer(code, table.audit, table.clone, 17) == FAIL + 1
    assert answer(code, table.audit, table.clone3) == FAIL + 38
    assert answer(code, table.audit, 9999) == FAIL + 1
    assert answer(code, 0x40000003, table.allowed[0]) == END
    assert answer(code, table.audit, 0x40000000 + table.allowed[0]) == END
    assert not {*table.allowed, *table.own, table.stat, table.clone, table.fcntl} & set(table.fatal)


def answer(code: bytes, audit: int, number: int, *arguments: int) -> int:
    """What the filter says: a small machine for the instructions that it is made of."""
    given = {0: number, 4: audit, **{16 + 8 * index: value for index, value in enumerate(arguments)}}
    steps: list[tuple[int, int, int, int]] = list(struct.iter_unpack("=HBBI", code))
    at = held = 0
    while True:
        what, then, otherwise, value = steps[at]
        at += 1
        if what == 0x20:
            held = given.get(value, 0)
        elif what == 0x06:
            return value
        else:
            holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[what]
            at += then if holds else otherwise
