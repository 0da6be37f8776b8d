"""Worker process: takes one job at a time from a socket, with the file's descriptor, and responds on standard output.

A file that takes over its decoder takes over this process, so it may do nothing but decode: see `isolation`. It has no
environment, and no file but the one of its job. It ends with its parent, whose end closes the socket; if a decoder
hangs meanwhile, the alarm of the job ends it.
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

MAX_FILES: Final = 1000  # so that leaks of decoders never add up
MAX_FAILURE_CHARACTERS: Final = 500  # of an exception's text
GRACE_SECONDS: Final = 1.0  # beyond a job's limit, after which a worker ends itself


def main() -> None:
    """Serve until the socket is closed."""
    isolation.limit_resources()
    av.logging.set_level(av.logging.PANIC)
    preload()
    held = isolation.close_paths()
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    source = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    threading.Thread(target=_listen, args=(source, jobs), daemon=True).start()
    held += isolation.isolate()
    _say(frame(Ready(isolation=tuple(held))))
    for left in itertools.count(MAX_FILES - 1, -1):
        job = jobs.get()
        signal.setitimer(signal.ITIMER_REAL, job.seconds + GRACE_SECONDS)
        answer = respond(job, last=left <= 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.close(job.descriptor)
        _say(answer)


def respond(job: Job, *, last: bool = False) -> bytes:
    """Return the response to one job. An unexpected exception becomes a `failure`: it is a bug."""
    try:
        answer = do(job)
        return frame(replace(answer, last=answer.last or last))
    except Exception as exc:  # noqa: BLE001 the parent logs it; ending here would only cost a new process
        return frame(DecodeResult(failure=_describe(exc), last=last))


def do(job: Job) -> DecodeResult:
    """Run one job. Every fault of the file becomes a `problem`."""
    try:
        if job.task is DecodeTask.THUMBNAIL:
            return DecodeResult(thumbnail=thumbnails.draw(job))
        return DecodeResult(facts=decode.complete_metadata(job))
    except PermissionError:  # decoding needs no permission: a bug, or an attack
        raise
    except MemoryError:
        return DecodeResult(problem="decoding it takes more memory than is allowed", last=True)
    except av.FFmpegError as exc:
        if exc.errno == errno.EAGAIN:  # no thread could be started: this process is used up
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
    return f"{said} ({place})".encode(errors="replace").decode()[:MAX_FAILURE_CHARACTERS]


def preload() -> None:
    """Load what decoding loads on first use: later nothing can be loaded."""
    for module in pkgutil.walk_packages(av.__path__, "av.", onerror=lambda _: None):
        if not module.name.endswith(("__main__", "datasets")):
            with suppress(ImportError):  # some need modules that decoding does not
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
    """Read a number of bytes; fewer when the parent is gone."""
    body = bytearray()
    while len(body) < length and (more := source.recv(length - len(body))):
        body += more
    return bytes(body) if len(body) == length else b""


def _say(message: bytes) -> None:
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()


def run() -> None:
    """Run `main` and report an exception on standard error.

    The interpreter's own exit would wait for the listening thread, and abort, which looks like a crash of a decoder.
    """
    try:
        main()
    except BaseException:  # noqa: BLE001 the process ends by it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    run()
