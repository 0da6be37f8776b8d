"""Pool of decoder processes: started on demand, killed at a timeout, replaced after a crash.

The processes open no file: each job comes over a socket with the descriptor of its file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from logging import ERROR, WARNING
from typing import Final, cast

import msgspec
import structlog

from telewarm.errors import DecoderFailed, UnreadableMedia, UsageError
from telewarm.probe.ipc import LENGTH_BYTES, MAX_FRAME_BYTES, DecodeResult, Job, frame, read_answer, read_ready
from telewarm.probe.words import unreadable

START_SECONDS: Final = 30.0  # a start takes 0.4 s; more under load
EXIT_SECONDS: Final = 1.0  # for a process to end after it closed its output
STDERR_BYTES: Final = 8192  # of a worker's standard error that are kept
# Signals by which a file may end a decoder. Another end is not the file's fault.
CRASH_SIGNALS: Final = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGKILL", "SIGALRM"})
ISOLATION_LAYERS: Final = frozenset({"rlimits", "no_new_privs", "landlock", "seccomp"})  # and another user than root
WORKER: Final = ("-P", "-s", "-B", "-m", "telewarm.probe.worker")

log = structlog.get_logger(__name__)


class DecoderPool:
    """At most `size` workers, each with one file at a time, each file for at most `seconds`."""

    def __init__(self, *, size: int, seconds: float) -> None:
        self._seconds = seconds
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._closed = False
        self.isolation: frozenset[str] | None = None  # layers in force, once a worker has started

    async def ask(self, job: Job) -> DecodeResult:
        """Run a job.

        Raises UnreadableMedia for a fault of the file, including a timeout and a crash; DecoderFailed, logged, when a
        worker failed for another reason or cannot start. Cancelling kills the worker.
        """
        async with self._slots:
            with _opened(job) as file:
                answer = await self._answer(job, file)
        if answer.problem is not None:
            raise _unreadable(job, answer.problem)
        if answer.failure is not None:
            log.error("decoder_failed", task=job.task, mime=job.facts.mime, last_line=answer.failure)
            raise _failed(job, answer.failure)
        return answer

    async def _answer(self, job: Job, file: int) -> DecodeResult:
        worker = await self._take()
        keep = False
        try:
            self._demand_open()
            async with asyncio.timeout(self._seconds):
                answer = await worker.ask(replace(job, path="", seconds=self._seconds), file)
        except TimeoutError as exc:
            raise _unreadable(job, f"it took more than {self._seconds:g} seconds to decode") from exc
        except (OSError, EOFError, msgspec.DecodeError) as exc:
            self._demand_open()
            raise await _explain_end(worker, job) from exc
        else:
            keep = not answer.last
        finally:
            if keep:
                self._idle.append(worker)
            else:
                await self._discard(worker)
        return answer

    async def close(self) -> None:
        """Kill all workers and wait for their end."""
        self._closed = True
        self._idle.clear()
        for worker in tuple(self._workers):
            await self._discard(worker)

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.lives:
                return worker
            await self._discard(worker)
        worker = await _Worker.start()
        self._workers.add(worker)
        if self.isolation is None and (missing := ISOLATION_LAYERS - worker.isolation):
            log.info("decoder_isolation_incomplete", held=sorted(worker.isolation), missing=sorted(missing))
        self.isolation = worker.isolation
        return worker

    async def _discard(self, worker: _Worker) -> None:
        try:
            await worker.kill()
        finally:
            self._workers.discard(worker)

    def _demand_open(self) -> None:
        if self._closed:
            raise UsageError("The probe is closed. Ask before closing it.")


class _Worker:
    """One process, with its socket and pipes."""

    def __init__(self, process: Process, jobs: socket.socket) -> None:
        self._process = process
        self._jobs = jobs
        self.isolation: frozenset[str] = frozenset()
        self._stdout = cast(asyncio.StreamReader, process.stdout)
        self._stderr = bytearray()
        self._reading = asyncio.create_task(self._read_stderr(), name=f"decoder-stderr-{process.pid}")

    @classmethod
    async def start(cls) -> _Worker:
        """Start a worker and wait until it is ready. Raises DecoderFailed."""
        worker = await cls._launched()
        ready = None
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = read_ready(await worker.read())
        except (OSError, EOFError, msgspec.DecodeError) as exc:  # a TimeoutError is an OSError
            raise await _explain_start(worker) from exc
        finally:
            if ready is None:
                await worker.kill()
        worker.isolation = frozenset(ready.isolation)
        return worker

    @classmethod
    async def _launched(cls) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)  # noqa: FBT003 its only argument
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *WORKER,
                    stdin=theirs.fileno(),
                    stdout=PIPE,
                    stderr=PIPE,
                    env={"PYTHONPATH": os.pathsep.join(sys.path)},
                    cwd="/",
                    start_new_session=True,  # Ctrl-C in a terminal is for the parent
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, ours)

    @property
    def lives(self) -> bool:
        """Whether the process is running."""
        return self._process.returncode is None

    async def ask(self, job: Job, file: int) -> DecodeResult:
        """Run a job. Raises OSError or EOFError if the process ends, msgspec.DecodeError if it writes garbage."""
        message = frame(job)
        socket.send_fds(self._jobs, [message[:LENGTH_BYTES]], [file])  # the buffer is empty, so these few bytes fit
        await asyncio.get_running_loop().sock_sendall(self._jobs, message[LENGTH_BYTES:])
        return read_answer(await self.read())

    async def kill(self) -> None:
        """Kill the process."""
        if self.lives:
            self._process.kill()
        await self._process.wait()
        self._jobs.close()
        await asyncio.wait({self._reading}, timeout=EXIT_SECONDS)

    async def end(self) -> tuple[str, str]:
        """Wait for the end, killing the process if necessary. Returns how it ended and its last standard error."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EXIT_SECONDS):
                await self._process.wait()
        await self.kill()
        status = self._process.returncode or 0
        lines = self._stderr.decode(errors="replace").split("\n")
        return _name_status(status), next((line.strip() for line in reversed(lines) if line.strip()), "")

    async def _read_stderr(self) -> None:
        """Read standard error so that the process never blocks; keep its end."""
        stream = cast(asyncio.StreamReader, self._process.stderr)
        while chunk := await stream.read(STDERR_BYTES):
            self._stderr += chunk
            del self._stderr[:-STDERR_BYTES]

    async def read(self) -> bytes:
        """Read until the end."""
        length = int.from_bytes(await self._stdout.readexactly(LENGTH_BYTES))
        if length > MAX_FRAME_BYTES:
            raise EOFError
        return await self._stdout.readexactly(length)


@contextmanager
def _opened(job: Job) -> Iterator[int]:
    """Open the file. Raises UnreadableMedia."""
    try:
        file = os.open(job.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise _unreadable(job, exc.strerror or "it cannot be opened") from exc
    try:
        yield file
    finally:
        os.close(file)


async def _explain_end(worker: _Worker, job: Job) -> UnreadableMedia | DecoderFailed:
    """Return the error of a worker that ended or wrote garbage during a job: the file's or ours. Always logged."""
    status, line = await worker.end()
    crashed = status in CRASH_SIGNALS
    log.log(
        WARNING if crashed else ERROR,
        "decoder_ended",
        task=job.task,
        mime=job.facts.mime,
        status=status,
        last_line=line,
    )
    return _unreadable(job, "its decoder crashed") if crashed else _failed(job, line or status)


async def _explain_start(worker: _Worker) -> DecoderFailed:
    status, line = await worker.end()
    log.error("decoder_not_started", status=status, last_line=line)
    return DecoderFailed(
        f"The process that decodes media does not start ({line or status}). Check the installation of av and pillow.",
        failure=line or status,
    )


def _name_status(status: int) -> str:
    try:
        return signal.Signals(-status).name if status < 0 else f"exit code {status}"
    except ValueError:
        return f"signal {-status}"


def _failed(job: Job, failure: str) -> DecoderFailed:
    return DecoderFailed(
        f"Telewarm's decoder failed at this {job.facts.mime} file ({failure.partition(':')[0]}), which need not be the "
        "file's fault. The log says more, under decoder_: please report it. As a document the file can be sent.",
        failure=failure,
    )


def _unreadable(job: Job, problem: str) -> UnreadableMedia:
    return unreadable(job.facts, problem)
