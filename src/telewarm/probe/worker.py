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
from dataclasses import replace
from typing import BinaryIO, Final

import av
from PIL import UnidentifiedImageError

from telewarm.probe import decode, thumbnails
from telewarm.probe.wire import LENGTH_BYTES, Answer, Job, Task, frame, read_job

MEMORY: Final = 1 << 30  # bytes of address space beyond which allocation fails
LIFETIME: Final = 1000  # files, so that what a decoder leaks never adds up
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
        answer = do(job)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(frame(replace(answer, last=answer.last or left <= 0)))


def do(job: Job) -> Answer:
    """The answer to one job; every fault of the file becomes a `problem`."""
    try:
        if job.task is Task.THUMBNAIL:
            return Answer(thumbnail=thumbnails.draw(job))
        return Answer(facts=decode.complete(job))
    except MemoryError:
        return Answer(problem="decoding it takes more memory than is allowed", last=True)
    except av.FFmpegError as exc:
        return Answer(problem=exc.strerror)
    except (decode.TooLarge, decode.NothingThere) as exc:
        return Answer(problem=str(exc))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, ArithmeticError, LookupError) as exc:
        return Answer(problem=f"the decoder gave up ({type(exc).__name__})")


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


if __name__ == "__main__":
    main()
