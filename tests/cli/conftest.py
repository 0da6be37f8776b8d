"""Commands in a folder with pictures, on the test's own database and sandbox."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pty
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

import telewarm
from telewarm.cli import app
from telewarm.cures import Interface
from telewarm.errors import TelewarmError
from tests.fixtures.app import Opener
from tests.fixtures.media import jpeg

SOURCES = Path(telewarm.__file__).parents[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """`said`: on standard error, with an error of ours as `telewarm` tells it."""

    code: int
    out: str
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Commands:
    """Runs them in this process, each on a loop of its own; or as processes."""

    opener: Opener
    folder: Path

    async def __call__(self, *arguments: str, given: str = "") -> Ended:
        environ = self.opener.environ(COLUMNS="200", NO_COLOR="1", TERM="dumb")
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments, input=given, env=environ)
        error = result.exception
        if error is not None and not isinstance(error, TelewarmError | SystemExit):
            raise error
        said = f"{error.code} {error.message_for(Interface.CLI)}" if isinstance(error, TelewarmError) else ""
        return Ended(code=result.exit_code, out=result.stdout, said=result.stderr + said)

    async def ok(self, *arguments: str, given: str = "") -> Ended:
        ended = await self(*arguments, given=given)
        assert ended.code == 0, ended
        return ended

    async def start(
        self, *arguments: str, stdin: int = PIPE, stdout: int = PIPE, stderr: int = PIPE
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "telewarm", *arguments),
            cwd=self.folder,
            env=self.opener.environ(TERM="xterm", COLUMNS="100", PYTHONPATH=str(SOURCES)),
            stdin=stdin, stdout=stdout, stderr=stderr,
        )  # fmt: skip

    async def process(self, *arguments: str) -> Ended:
        return await ended(await self.start(*arguments))

    async def answered(self, answer: str, *arguments: str) -> Ended:
        """As a process with a terminal, on which somebody types the answer."""
        ours, theirs = pty.openpty()
        try:
            process = await self.start(*arguments, stdin=theirs)
            os.write(ours, f"{answer}\n".encode())
            return await ended(process)
        finally:
            os.close(ours)
            os.close(theirs)


async def ended(process: asyncio.subprocess.Process) -> Ended:
    out, said = await process.communicate()
    assert process.returncode is not None
    return Ended(code=process.returncode, out=(out or b"").decode(), said=(said or b"").decode())


@pytest.fixture
def command(telewarm_with: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """What commands set up for a whole process is taken back."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    logs, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Commands(opener=telewarm_with, folder=tmp_path)
    structlog.configure(**logs)
    root.handlers[:] = handlers
    root.setLevel(level)
    gc.unfreeze()
