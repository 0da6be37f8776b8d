"""Ctrl-C, SIGTERM and a closed terminal end every command at any moment, and leave nothing running."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

import pytest

from tests.database.test_embedded import server_processes, stopped

OTHERS = (("bot", "list"), ("migrate",), ("token", "list"), ("worker",))
SERVE = ("serve", "--port", "0")
COMMANDS = [SERVE, *(pytest.param(words, marks=pytest.mark.heavy) for words in OTHERS)]
SETTINGS = re.compile(r"^settings: .*\n", re.MULTILINE)  # which file holds is told first of all


async def start(data: Path, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telewarm", *arguments),
        cwd=data,
        env={"TELEWARM_DATA": str(data / "telewarm"), "PATH": os.defpath, "NO_COLOR": "1"},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def ended_by(process: Process, number: signal.Signals, *, after: float) -> tuple[int, str]:
    """Its exit code and what it said. `after`: seconds, unless it ends before."""
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), after)
    if process.returncode is None:
        process.send_signal(number)
    out, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, ((out or b"") + said).decode()


@pytest.mark.parametrize("arguments", COMMANDS)
async def test_ctrl_c_at_any_moment_is_silent_and_130_and_leaves_nothing_running(
    data_folder: Path, arguments: tuple[str, ...]
) -> None:
    """The first time an empty data folder is set up; later ones find it at any stage of that."""
    for after in (0.15, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5):
        code, said = await ended_by(await start(data_folder, *arguments), signal.SIGINT, after=after)
        if code == 0:  # it was done, or told as it is meant to be told
            break
        # A shell shows both as 130. Python ends itself by the signal when it came while a text was executed.
        assert code in {130, -signal.SIGINT}, (after, said)
        assert not SETTINGS.sub("", said), after
        assert stopped(data_folder / "telewarm" / "postgres")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_a_closed_terminal_ends_the_service_and_its_database(data_folder: Path, number: signal.Signals) -> None:
    process = await start(data_folder, "serve", "--port", "0")
    assert process.stderr is not None
    while b"running at" not in await process.stderr.readline():
        assert process.returncode is None
    assert server_processes(data_folder / "telewarm" / "postgres")
    code, said = await ended_by(process, number, after=0)
    assert code == 0, said
    assert "Traceback" not in said
    assert stopped(data_folder / "telewarm" / "postgres")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_a_command_that_is_told_to_end_closes_its_database(data_folder: Path, number: signal.Signals) -> None:
    process = await start(data_folder, "broadcast", "watch", "1")
    code, said = await ended_by(process, number, after=1.8)
    assert "Traceback" not in said
    assert code in {1, 128 + number, -number}  # 1: there is no broadcast 1; below 0: it had not begun
    assert stopped(data_folder / "telewarm" / "postgres")


async def test_a_service_that_was_started_with_nohup_outlives_the_terminal(data_folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("nohup", sys.executable, "-m", "telewarm", "serve", "--port", "0"),
        cwd=data_folder,
        env={"TELEWARM_DATA": str(data_folder / "telewarm"), "PATH": os.defpath, "NO_COLOR": "1"},
        stderr=PIPE,
    )
    assert process.stderr is not None
    while b"running at" not in await process.stderr.readline():
        assert process.returncode is None
    process.send_signal(signal.SIGHUP)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 1.0)
    assert (await ended_by(process, signal.SIGTERM, after=0))[0] == 0
