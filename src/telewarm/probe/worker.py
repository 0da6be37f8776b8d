"""A worker process: takes one job at a time from a socket, with the file's descriptor, and answers on standard output.

A file that takes over its decoder takes over this process, so it may do nothing but decode: see `isolation`. It has no
environment, and no file but the one of its job. It ends with its parent, whose end closes the socket; should a decoder
hang meanwhile, the alarm set for each job ends it.
"""

from __future__ import annotations

import codecs
import errno
import importlib
import itertools
import os
import pkgutil
import queue
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import replace
from typing import Final

import av
from PIL import AvifImagePlugin, UnidentifiedImageError

from telewarm.probe import decode, isolation, thumbnails
from telewarm.probe.ipc import LENGTH_BYTES, DecodeResult, DecodeTask, Job, Ready, frame, read_job
from telewarm.probe.stills import Undrawable
from telewarm.probe.words import plain

LIFETIME: Final = 1000  # files, so that what a decoder leaks never adds up
FAILURE_LENGTH: Final = 500  # characters kept of what an exception says
GRACE: Final = 1.0  # seconds beyond a job's limit after which a worker that nobody killed ends itself


def main() -> None:
    """Serve until standard input ends."""
    isolation.bound()
    av.logging.set_level(av.logging.PANIC)
    preload()
    held = isolation.close_paths()
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    source = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    threading.Thread(target=_listen, args=(source, jobs), daemon=True).start()
    held += isolation.isolate()
    _say(frame(Ready(isolation=tuple(held))))
    for left in itertools.count(LIFETIME - 1, -1):
        job = jobs.get()
        signal.setitimer(signal.ITIMER_REAL, job.seconds + GRACE)
        answer = respond(job, last=left <= 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.close(job.descriptor)
        _say(answer)


def respond(job: Job, *, last: bool = False) -> bytes:
    """The frame that answers one job. An exception that no file should cause is told as a `failure`: it is our bug."""
    try:
        answer = do(job)
        return frame(replace(answer, last=answer.last or last))
    except Exception as exc:  # noqa: BLE001 the parent logs it; ending here would only cost a new process
        return frame(DecodeResult(failure=_describe(exc), last=last))


def do(job: Job) -> DecodeResult:
    """The answer to one job; every fault of the file becomes a `problem`."""
    try:
        if job.task is DecodeTask.THUMBNAIL:
            return DecodeResult(thumbnail=thumbnails.draw(job))
        return DecodeResult(facts=decode.complete(job))
    except PermissionError:  # decoding needs none: what was tried is our fault, or an attack
        raise
    except MemoryError:
        return DecodeResult(problem="decoding it takes more memory than is allowed", last=True)
    except av.FFmpegError as exc:
        if exc.errno == errno.EAGAIN:  # no thread could be started: this process has used itself up
            return DecodeResult(failure=_describe(exc), last=True)
        return DecodeResult(problem=plain(exc.strerror))
    except (decode.DecodeLimitExceeded, decode.NoMediaStream, Undrawable) as exc:
        return DecodeResult(problem=str(exc))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, ArithmeticError, LookupError) as exc:
        return DecodeResult(problem=f"the decoder gave up ({type(exc).__name__})")


def _describe(exc: Exception) -> str:
    where = traceback.extract_tb(exc.__traceback__)[-1]
    place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
    said = traceback.format_exception_only(exc)[-1].strip()
    return f"{said} ({place})".encode(errors="replace").decode()[:FAILURE_LENGTH]


def preload() -> None:
    """What decoding loads when it is needed first: later nothing can be."""
    for module in pkgutil.walk_packages(av.__path__, "av.", onerror=lambda _: None):
        if not module.name.endswith(("__main__", "datasets")):
            with suppress(ImportError):  # some need what decoding does not
                importlib.import_module(module.name)
    for name in ("Avif", "Bmp", "Gif", "Jpeg", "Mpo", "Png", "Tiff", "WebP"):
        importlib.import_module(f"PIL.{name}ImagePlugin")
    for name in ("ascii", "cp1252", "latin-1", "utf-8", "utf-16", "utf-16-be", "utf-16-le", "utf-32"):
        codecs.lookup(name)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _listen(source: socket.socket, jobs: queue.SimpleQueue[Job]) -> None:
    while True:
        length, descriptors, _flags, _address = socket.recv_fds(source, LENGTH_BYTES, 1)
        body = _received(source, int.from_bytes(length)) if len(length) == LENGTH_BYTES else b""
        if not body or not descriptors:
            os._exit(0)
        jobs.put(replace(read_job(body), descriptor=descriptors[0]))


def _received(source: socket.socket, length: int) -> bytes:
    """Less when the parent is gone."""
    body = bytearray()
    while len(body) < length and (more := source.recv(length - len(body))):
        body += more
    return bytes(body) if len(body) == length else b""


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
