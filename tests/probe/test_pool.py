"""Decoders that hang, crash, overrun, are cancelled or orphaned: real processes, real signals."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from telewarm import clock
from telewarm.demo.media import DemoFile
from telewarm.errors import DecoderFailed, UnreadableMedia, UsageError
from telewarm.models import Kind, MediaMetadata
from telewarm.probe import Probe
from telewarm.probe.ipc import LENGTH_BYTES, DecodeTask, Job, frame
from tests.fixtures.decoders import broken_module, broken_open

WORKER = [sys.executable, "-m", "telewarm.probe.worker"]
PARENT = """
import asyncio, sys
from pathlib import Path
from telewarm.probe import Probe

async def main():
    async with Probe.open() as probe:
        await probe.facts(Path(sys.argv[1]))
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "telewarm.probe.worker" in child.cmdline()]


def the_worker() -> psutil.Process:
    (worker,) = workers()
    return worker


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await clock.sleep(0.001)


async def stopped_in_the_middle(probe: Probe, path: Path) -> tuple[psutil.Process, asyncio.Task[MediaMetadata]]:
    """A worker that was stopped by a signal while it has a file, and the caller who waits for it."""
    await probe.facts(path)
    worker = the_worker()
    worker.suspend()
    asking = asyncio.create_task(probe.facts(path))
    await until(lambda: not probe._pool._idle)
    return worker, asking


@pytest.fixture
def note(demo_files: dict[str, DemoFile]) -> Path:
    return demo_files["note.ogg"].path


async def test_no_process_starts_before_a_file_needs_a_decoder(
    probe: Probe, demo_files: dict[str, DemoFile], note: Path
) -> None:
    await probe.facts(demo_files["sunset.jpg"].path)
    await probe.facts(demo_files["leaflet.pdf"].path)
    assert workers() == []
    await probe.facts(note)
    assert len(workers()) == 1


async def test_a_worker_is_used_again_and_gone_after_closing(demo_files: dict[str, DemoFile], note: Path) -> None:
    async with Probe.open(workers=2) as probe:
        await asyncio.gather(*(probe.facts(note) for _ in range(6)))
        first = {worker.pid for worker in workers()}
        assert 1 <= len(first) <= 2
        await asyncio.gather(*(probe.facts(demo_files["song.mp3"].path) for _ in range(6)))
        assert first <= {worker.pid for worker in workers()}
    assert workers() == []


async def test_a_decoder_that_hangs_is_killed_at_the_limit_and_the_next_file_is_read(probe: Probe, note: Path) -> None:
    await probe.facts(note)
    worker = the_worker()
    worker.suspend()
    probe._pool._seconds = 0.3
    with pytest.raises(UnreadableMedia, match=r"more than 0\.3 seconds"):
        await probe.facts(note)
    assert not worker.is_running()
    probe._pool._seconds = 15
    assert (await probe.facts(note)).audio_codec == "opus"


async def test_a_decoder_that_crashes_fails_its_own_file_only(probe: Probe, note: Path) -> None:
    worker, asking = await stopped_in_the_middle(probe, note)
    others = [asyncio.create_task(probe.facts(note)) for _ in range(3)]
    worker.kill()
    with pytest.raises(UnreadableMedia, match="decoder crashed"):
        await asking
    assert [(await other).audio_codec for other in others] == ["opus"] * 3


async def test_a_worker_that_died_while_idle_is_replaced_unnoticed(probe: Probe, note: Path) -> None:
    await probe.facts(note)
    worker = the_worker()
    worker.kill()
    await until(lambda: not probe._pool._idle[0].lives)
    assert (await probe.facts(note)).audio_codec == "opus"
    assert the_worker().pid != worker.pid


async def test_a_cancelled_caller_frees_the_worker_at_once(probe: Probe, note: Path) -> None:
    worker, asking = await stopped_in_the_middle(probe, note)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not worker.is_running()
    assert probe._pool._workers == set()
    assert (await probe.facts(note)).audio_codec == "opus"


async def test_cancelling_during_the_start_leaves_no_process(probe: Probe, note: Path) -> None:
    asking = asyncio.create_task(probe.facts(note))
    await until(lambda: bool(workers()))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert workers() == []


async def test_closing_ends_a_file_in_progress_without_blaming_it(note: Path) -> None:
    probe = Probe(workers=1)
    _worker, asking = await stopped_in_the_middle(probe, note)
    await probe.close()
    with pytest.raises(UsageError, match="closed"):
        await asking
    with pytest.raises(UsageError, match="closed"):
        await probe.facts(note)
    assert workers() == []


async def test_a_worker_retires_after_a_thousand_files_and_nobody_notices(probe: Probe, note: Path) -> None:
    await probe.facts(note)
    first = the_worker()
    for _ in range(1000):
        assert (await probe.facts(note)).audio_codec == "opus"
    assert not first.is_running()
    assert len(workers()) == 1


async def test_a_worker_inherits_no_environment_and_no_socket_and_has_bounded_memory(
    probe: Probe, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_API_TOKEN", "not-for-decoders")
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.set_inheritable(server.fileno(), True)  # noqa: FBT003 its only argument
        await probe.facts(note)
        worker = the_worker()
        assert "not-for-decoders" not in str(worker.environ())
        assert worker.net_connections("inet") == []
        assert f"{1 << 30}" in Path(f"/proc/{worker.pid}/limits").read_text()  # noqa: ASYNC240


async def test_other_callers_go_on_while_a_file_is_decoded(
    probe: Probe, note: Path, photo_file: Callable[..., Path]
) -> None:
    _worker, asking = await stopped_in_the_middle(probe, note)
    assert (await probe.facts(photo_file(width=80))).width == 80
    assert not asking.done()
    asking.cancel()


def test_no_worker_outlives_a_parent_that_was_killed(note: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(note)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        children = psutil.Process(parent.pid).children()
        assert len(children) == 1
        parent.kill()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert (len(gone), alive) == (1, [])


@pytest.mark.parametrize("pipe_closes", [True, False])
def test_a_hanging_orphan_ends_by_itself(note: Path, tmp_path: Path, pipe_closes: bool) -> None:  # noqa: FBT001 a parameter
    facts = MediaMetadata(bytes=1, mime="audio/mpeg", ext="mp3")
    job = Job(task=DecodeTask.FACTS, path="", facts=facts, demuxer="mp3", seconds=60 if pipe_closes else 0.1)
    message = frame(job)
    ours, theirs = socket.socketpair()
    with ours, broken_open(tmp_path, "__import__('time').sleep(60)"), note.open("rb") as file:
        environ = {"PYTHONPATH": os.pathsep.join(sys.path)}
        with theirs, subprocess.Popen(WORKER, stdin=theirs.fileno(), stdout=subprocess.PIPE, env=environ) as worker:
            theirs.close()
            assert worker.stdout is not None
            assert worker.stdout.read(LENGTH_BYTES) > bytes(LENGTH_BYTES)
            socket.send_fds(ours, [message[:LENGTH_BYTES]], [file.fileno()])
            ours.sendall(message[LENGTH_BYTES:])
            if pipe_closes:
                ours.close()
            assert worker.wait(timeout=10) == (0 if pipe_closes else -signal.SIGALRM)


def test_a_worker_loads_the_probe_and_nothing_else_of_the_app() -> None:
    listing = "import sys, telewarm.probe.worker; print(*(m for m in sys.modules if m.startswith('telewarm')))"
    output = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, timeout=15)
    loaded = {name for name in output.stdout.split() if not name.startswith("telewarm.probe")}
    values = {"telewarm.models", "telewarm.message_set", "telewarm.coercion", "telewarm.ids"}
    assert loaded <= {"telewarm", "telewarm.errors", "telewarm.cures", "telewarm.clock", *values}


@pytest.mark.parametrize(
    ("statement", "last_line"),
    [
        ("raise TypeError('no such argument')", "TypeError: no such argument"),
        ("raise AttributeError('no such name')", "AttributeError: no such name"),
        ("raise RuntimeError('odd \\udce9')", "RuntimeError: odd ?"),
        ("import struct; struct.unpack('>L', b'')", "struct.error: unpack requires a buffer of 4 bytes"),
        ("raise Unforeseen('out of the process')", "av.Unforeseen: out of the process"),
        (
            "sys.stderr.write('first\\n\\nlast words  \\n\\n'); sys.stderr.flush(); __import__('os')._exit(3)",
            "last words",
        ),
        (
            "sys.stderr.write('x' * 500_000 + '\\nthe end\\n'); raise Unforeseen('of a long story')",
            "Unforeseen: of a long",
        ),
        ("__import__('os')._exit(7)", "exit code 7"),
        ("__import__('signal').raise_signal(31)", "SIGSYS"),
    ],
)
async def test_an_exception_of_ours_is_logged_with_its_last_line_and_no_fault_of_the_file(
    probe: Probe, note: Path, tmp_path: Path, statement: str, last_line: str
) -> None:
    with broken_open(tmp_path, statement), capture_logs() as logs:
        with pytest.raises(DecoderFailed, match="need not be the file's fault") as caught:
            await probe.facts(note)
        assert (await probe.facts(note, kind=Kind.DOCUMENT)).mime == "audio/ogg"
    assert last_line in caught.value.failure
    assert [entry["log_level"] for entry in logs] == ["error", "error"]
    assert all(last_line in f"{entry.get('status')}: {entry['last_line']}" for entry in logs)
    assert str(note) not in caught.value.message


async def test_an_exception_of_ours_costs_no_new_process(probe: Probe, note: Path, tmp_path: Path) -> None:
    with broken_open(tmp_path, "raise TypeError('no such argument')"):
        for _ in range(3):
            with pytest.raises(DecoderFailed):
                await probe.facts(note)
            first = the_worker()
            with pytest.raises(DecoderFailed):
                await probe.facts(note)
            assert the_worker().pid == first.pid


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE"])
async def test_a_crash_inside_a_decoder_is_told_of_the_file_and_logged(
    probe: Probe, note: Path, tmp_path: Path, name: str
) -> None:
    statement = f"import os, signal; os.kill(os.getpid(), signal.{name}); signal.pause()"
    with broken_open(tmp_path, statement), capture_logs() as logs, pytest.raises(UnreadableMedia, match="crashed"):
        await probe.facts(note)
    assert [(entry["event"], entry["status"]) for entry in logs] == [("decoder_ended", name)]


@pytest.mark.parametrize(
    ("source", "last_line"),
    [
        ("raise ImportError('libav.so: no such file')", "ImportError: libav.so: no such file"),
        ("import os; os._exit(1)", "exit code 1"),
        ("print('hello' * 100)", "av"),
    ],
)
async def test_a_decoder_process_that_does_not_start_says_why(
    probe: Probe, note: Path, tmp_path: Path, source: str, last_line: str
) -> None:
    with broken_module(tmp_path, source), capture_logs() as logs, pytest.raises(DecoderFailed) as caught:
        await probe.facts(note)
    assert last_line in caught.value.message
    assert [entry["event"] for entry in logs] == ["decoder_not_started"]
    assert workers() == []
    assert (await probe.facts(note)).audio_codec == "opus"


async def test_what_a_decoder_says_besides_holds_nothing_up(probe: Probe, note: Path, tmp_path: Path) -> None:
    """A pipe that nobody reads is full after 64 kB."""
    talk = "sys.stderr.write('x' * 1_000_000); sys.stderr.flush(); raise av.error.InvalidDataError(1, 'so')"
    with broken_open(tmp_path, talk), pytest.raises(UnreadableMedia, match="its data is damaged"):
        await probe.facts(note)
