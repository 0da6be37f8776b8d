"""The worker processes that run decoders: started when needed, killed when they overrun, replaced when they crash."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import replace
from typing import Final, cast

import msgspec

from telewarm.errors import TelewarmError, UnreadableMedia, UsageError
from telewarm.probe.wire import LENGTH_BYTES, LONGEST_FRAME, Answer, Job, frame, read_answer

START_SECONDS: Final = 30.0  # a start takes 0.4 s; a machine under load may need more
WORKER: Final = ("-P", "-s", "-B", "-m", "telewarm.probe.worker")


class Pool:
    """At most `size` workers, each with one file at a time, each file for at most `seconds`."""

    def __init__(self, *, size: int, seconds: float) -> None:
        self._seconds = seconds
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._closed = False

    async def ask(self, job: Job) -> Answer:
        """The worker's answer. Raises UnreadableMedia for a fault of the file, a hang and a crash included.

        Cancelling kills the worker at once.
        """
        async with self._slots:
            worker = await self._take()
            keep = False
            try:
                self._demand_open()
                async with asyncio.timeout(self._seconds):
                    answer = await worker.ask(replace(job, seconds=self._seconds))
            except TimeoutError as exc:
                raise _unreadable(job, f"it took more than {self._seconds:g} seconds to decode") from exc
            except (OSError, EOFError, msgspec.DecodeError) as exc:
                self._demand_open()
                raise _unreadable(job, "its decoder crashed") from exc
            else:
                keep = not answer.last
            finally:
                if keep:
                    self._idle.append(worker)
                else:
                    await self._discard(worker)
        if answer.problem is not None:
            raise _unreadable(job, answer.problem)
        return answer

    async def close(self) -> None:
        """Kill all workers and wait until they are gone."""
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
    """One process and the two pipes to it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._stdin = cast(asyncio.StreamWriter, process.stdin)
        self._stdout = cast(asyncio.StreamReader, process.stdout)

    @classmethod
    async def start(cls) -> _Worker:
        """A worker that is ready. Raises TelewarmError if none comes up."""
        worker = cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *WORKER,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
                cwd="/",
                start_new_session=True,  # Ctrl-C in a terminal is for the parent
            )
        )
        ready = False
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = await worker._read() == b""
        except (OSError, EOFError) as exc:
            raise TelewarmError(
                "The process that decodes media does not start. Check the installation of av and pillow."
            ) from exc
        finally:
            if not ready:
                await worker.kill()
        return worker

    @property
    def lives(self) -> bool:
        return self._process.returncode is None

    async def ask(self, job: Job) -> Answer:
        """Raises OSError or EOFError if the process ends meanwhile, msgspec.DecodeError if it writes nonsense."""
        self._stdin.write(frame(job))
        await self._stdin.drain()
        return read_answer(await self._read())

    async def kill(self) -> None:
        if self.lives:
            self._process.kill()
        await self._process.wait()

    async def _read(self) -> bytes:
        length = int.from_bytes(await self._stdout.readexactly(LENGTH_BYTES))
        if length > LONGEST_FRAME:
            raise EOFError
        return await self._stdout.readexactly(length)


def _unreadable(job: Job, problem: str) -> UnreadableMedia:
    name = job.facts.mime
    return UnreadableMedia(f"This {name} file cannot be read: {problem}. Upload it again, or send it as a document.")
