"""Progress of a warm-up on the terminal, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from telewarm import clock
from telewarm.cli.console import echo_err
from telewarm.cli.run import install_stop_event
from telewarm.models import MediaState
from telewarm.runtime import Telewarm

POLL_SECONDS = 0.3  # seconds between looks
INTERRUPTED_EXIT_CODE = 130  # the exit code after Ctrl-C

CountStates: TypeAlias = Callable[[], Awaitable[Mapping[MediaState, int]]]
WorkOption: TypeAlias = Annotated[
    bool, typer.Option("--work", help="Upload them from this process and wait until done.")
]


async def work_until_warm(telewarm: Telewarm, bot: str, count_states: CountStates) -> int:
    """Work until none of what `count_states` counts is being warmed, or until Ctrl-C; the exit code."""
    stop = install_stop_event()
    async with telewarm.worker.running():
        found = await _show_progress(count_states, stop)
    left, failed = found.get(MediaState.WARMING, 0), found.get(MediaState.ERROR, 0)
    if left:
        echo_err(f"{left:,} still waiting. They are saved; any running worker will continue.")
        return INTERRUPTED_EXIT_CODE
    echo_err(f"{found.get(MediaState.READY, 0):,} ready, {failed:,} failed")
    if failed:
        echo_err(f"See why: telewarm media list {bot} --state error")
    return 1 if failed else 0


async def _show_progress(count_states: CountStates, stop: asyncio.Event) -> Mapping[MediaState, int]:
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("warm"), BarColumn(), TextColumn("{task.fields[way]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, way="")
        while True:
            found = await count_states()
            total, left = sum(found.values()), found.get(MediaState.WARMING, 0)
            bar.update(task, completed=total - left, total=total, way=f"{total - left:,} of {total:,}")
            if not left or await clock.wait(stop, POLL_SECONDS):
                return found
