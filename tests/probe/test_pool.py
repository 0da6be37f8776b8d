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

from telewarm import clock
from telewarm.demo.media import DemoFile
from telewarm.errors import UnreadableMedia, UsageError
from telewarm.model import Facts
from telewarm.probe import Probe
from telewarm.probe.wire import LENGTH_BYTES, Job, Task, frame

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


async def stopped_in_the_middle(probe: Probe, path: Path) -> tuple[psutil.Process, asyncio.Task[Facts]]:
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
        assert worker.rlimit(psutil.RLIMIT_AS) == (1 << 30, 1 << 30)


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
def test_a_hanging_orphan_ends_by_itself(tmp_path: Path, pipe_closes: bool) -> None:  # noqa: FBT001 a parameter
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it blocks until someone writes
    facts = Facts(bytes=1, mime="audio/mpeg", ext="mp3")
    job = Job(task=Task.FACTS, path=str(pipe), facts=facts, demuxer="mp3", seconds=60 if pipe_closes else 0.1)
    with subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.read(LENGTH_BYTES) == bytes(LENGTH_BYTES)
        worker.stdin.write(frame(job))
        worker.stdin.flush()
        if pipe_closes:
            worker.stdin.close()
        assert worker.wait(timeout=10) == (0 if pipe_closes else -signal.SIGALRM)


def test_a_worker_loads_the_probe_and_nothing_else_of_the_app() -> None:
    listing = "import sys, telewarm.probe.worker; print(*(m for m in sys.modules if m.startswith('telewarm')))"
    output = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, timeout=15)
    loaded = {name for name in output.stdout.split() if not name.startswith("telewarm.probe")}
    assert loaded <= {"telewarm", "telewarm.model", "telewarm.errors", "telewarm.clock"}
