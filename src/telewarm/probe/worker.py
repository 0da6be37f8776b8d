"""A worker process: takes one job at a time from standard input and answers on standard output.

It holds nothing worth stealing: no socket, no secret, no environment. It ends with its parent, whose end closes the
pipe; should a decoder hang meanwhile, the alarm set for each job ends it.
"""

from __future__ import annotations

import itertools
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from dataclasses import replace
from typing import BinaryIO, Final

import av
from PIL import UnidentifiedImageError

from telewarm.probe import decode, thumbnails
from telewarm.probe.stills import Undrawable
from telewarm.probe.wire import LENGTH_BYTES, Answer, Job, Task, frame, read_job
from telewarm.probe.words import plain

MEMORY: Final = 1 << 30  # bytes of address space beyond which allocation fails
LIFETIME: Final = 1000  # files, so that what a decoder leaks never adds up
FAILURE_LENGTH: Final = 500  # characters kept of what an exception says
GRACE: Final = 1.0  # seconds beyond a job's limit after which a worker that nobody killed ends itself


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(av.logging.PANIC)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, jobs), daemon=True).start()
    _say(b"\0" * LENGTH_BYTES)  # ready: an empty frame
    for left in itertools.count(LIFETIME - 1, -1):
        job = jobs.get()
        signal.setitimer(signal.ITIMER_REAL, job.seconds + GRACE)
        answer = respond(job, last=left <= 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(answer)


def respond(job: Job, *, last: bool = False) -> bytes:
    """The frame that answers one job. An exception that no file should cause is told as a `failure`: it is our bug."""
    try:
        answer = do(job)
        return frame(replace(answer, last=answer.last or last))
    except Exception as exc:  # noqa: BLE001 the parent logs it; ending here would only cost a new process
        return frame(Answer(failure=_describe(exc), last=last))


def do(job: Job) -> Answer:
    """The answer to one job; every fault of the file becomes a `problem`."""
    try:
        if job.task is Task.THUMBNAIL:
            return Answer(thumbnail=thumbnails.draw(job))
        return Answer(facts=decode.complete(job))
    except MemoryError:
        return Answer(problem="decoding it takes more memory than is allowed", last=True)
    except av.FFmpegError as exc:
        return Answer(problem=plain(exc.strerror))
    except (decode.TooLarge, decode.NothingThere, Undrawable) as exc:
        return Answer(problem=str(exc))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, ArithmeticError, LookupError) as exc:
        return Answer(problem=f"the decoder gave up ({type(exc).__name__})")


def _describe(exc: Exception) -> str:
    where = traceback.extract_tb(exc.__traceback__)[-1]
    place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
    said = traceback.format_exception_only(exc)[-1].strip()
    return f"{said} ({place})".encode(errors="replace").decode()[:FAILURE_LENGTH]


def _listen(source: BinaryIO, jobs: queue.SimpleQueue[Job]) -> None:
    while True:
        length = source.read(LENGTH_BYTES)
        body = source.read(int.from_bytes(length))
        if not body:
            os._exit(0)
        jobs.put(read_job(body))


def _say(message: bytes) -> None:
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()


def run() -> None:
    """`main`, whose end by an exception is told on standard error. The interpreter's own way out would wait for the
    thread that listens, and abort, which is how a crash of a decoder looks."""
    try:
        main()
    except BaseException:  # noqa: BLE001 the process ends by it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    run()
