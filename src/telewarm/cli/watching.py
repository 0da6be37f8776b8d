"""Progress of broadcasts: a bar for each on a terminal, else a line at intervals; and their results."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from telewarm import clock
from telewarm.broadcasts.progress import progress
from telewarm.database import leases
from telewarm.database.transient import is_transient
from telewarm.models import Broadcast, BroadcastId, BroadcastState, Cause, DeliveryStatus
from telewarm.runtime import Telewarm

ACTIVE_STATES = frozenset({BroadcastState.SCHEDULED, BroadcastState.RUNNING, BroadcastState.UNDOING})
SUCCESSFUL_STATES = frozenset({BroadcastState.DONE, BroadcastState.UNDONE})
POLL_SECONDS = 0.5  # seconds between looks
LINE_INTERVAL_SECONDS = 10.0  # seconds between lines where there is no terminal
LEASE_WAIT_SECONDS = 1.0  # seconds that a worker of this process has to be known
NO_WORKER_MESSAGE = "No worker is running, so nothing moves: start telewarm serve, or add --work"
RATE_WINDOW_SECONDS = 30.0  # seconds over which the bar's speed is taken


async def watch_broadcasts(telewarm: Telewarm, ids: Sequence[BroadcastId], stop: asyncio.Event) -> list[Broadcast]:
    """Show broadcasts until all have ended, or `stop` is set. Returns their final state."""
    found = [await telewarm.broadcasts.get(broadcast_id) for broadcast_id in ids]
    slugs = {one.id: (await telewarm.bots.get(one.bot_id)).bot.slug for one in found}
    idle = NoWorkerNotice()
    with _progress_view(slugs) as show:
        while True:
            show(found)
            if (said := await idle.check(telewarm, found)) is not None:
                show.print_line(said)
            if all(one.state not in ACTIVE_STATES for one in found) or await clock.wait(stop, POLL_SECONDS):
                return found
            try:
                found = [await telewarm.broadcasts.get(broadcast_id) for broadcast_id in ids]
            except Exception as error:  # it goes on without us; we see it when the database is back
                if not is_transient(error):
                    raise
                continue


def print_results(
    console: Console, broadcasts: Sequence[Broadcast], causes: Mapping[BroadcastId, Sequence[Cause]], *, stopped: bool
) -> int:
    """Print results and causes, or how to return to the broadcasts. Returns the exit code."""
    for one in broadcasts:
        console.print(f"broadcast {one.id} is {one.state}: {describe_counts(one)}", markup=False)
        for cause in causes.get(one.id, ()):
            console.print(f"  {describe_cause(cause)}", markup=False)
        for hint in _hints(one):
            console.print(f"  {hint}", markup=False)
    if stopped and any(one.state in ACTIVE_STATES for one in broadcasts):
        return 130
    return 0 if all(_succeeded(one) for one in broadcasts) else 1


def describe_cause(cause: Cause) -> str:
    """Describe a cause: number, reason, an example."""
    return f"{cause.count:,} {cause.outcome}, such as chat {cause.chat_id}: {cause.error}"


def describe_counts(broadcast: Broadcast) -> str:
    """Describe the counts of a broadcast."""
    said = [f"{broadcast.counts[outcome]:,} {outcome}" for outcome in DeliveryStatus if broadcast.counts.get(outcome)]
    left = broadcast.recipients - broadcast.done
    return ", ".join(said + ([f"{left:,} left"] if left else [])) or "no recipients"


def _succeeded(broadcast: Broadcast) -> bool:
    went = sum(
        broadcast.counts.get(outcome, 0)
        for outcome in (DeliveryStatus.SENT, DeliveryStatus.PARTIAL, DeliveryStatus.UNDONE)
    )
    return broadcast.state in SUCCESSFUL_STATES and went > 0


def _hints(one: Broadcast) -> Iterator[str]:
    command = "telewarm broadcast"
    if one.state in ACTIVE_STATES:
        yield f"Any running worker will continue it: telewarm serve, telewarm worker or {command} watch {one.id} --work"
        yield f"Watch: {command} watch {one.id}. Pause: {command} pause {one.id}"
    elif one.state is BroadcastState.PAUSED:
        reason, resume = one.reason or "somebody paused it", f"{command} resume {one.id}"
        yield reason if resume in reason else f"{reason}; go on with: {resume}"
    elif one.state is BroadcastState.DRAFT:
        yield f"send it: {command} start {one.id}"
    if one.counts.get(DeliveryStatus.FAILED) and one.state in {BroadcastState.DONE, BroadcastState.PAUSED}:
        yield f"send to the failed ones again: {command} retry {one.id} --failed"
    if one.counts.get(DeliveryStatus.FAILED):
        yield f"who, and why: {command} results {one.id} --outcome failed"
    if one.counts.get(DeliveryStatus.UNKNOWN) and one.state is not BroadcastState.RUNNING:
        yield f"Some may already have received it. To retry them: {command} retry-unknown {one.id}"
    if one.not_undone:
        yield f"{one.not_undone:,} messages could not be deleted"


class NoWorkerNotice:
    """Notice that no worker is running."""

    def __init__(self) -> None:
        self._next_check_at = clock.monotonic() + LEASE_WAIT_SECONDS
        self._shown = False

    async def check(self, telewarm: Telewarm, broadcasts: Sequence[Broadcast]) -> str | None:
        """Return the notice, once until a worker runs; None while the database is unavailable."""
        now = clock.monotonic()
        if now < self._next_check_at or all(one.state not in ACTIVE_STATES for one in broadcasts):
            return None
        self._next_check_at = now + LINE_INTERVAL_SECONDS
        try:
            works = await leases.is_any_worker_running(telewarm.pool)
        except Exception as error:
            if not is_transient(error):
                raise
            return None
        was_shown, self._shown = self._shown, not works
        return None if works or was_shown else NO_WORKER_MESSAGE


class ProgressView(Protocol):
    """View of the progress."""

    def __call__(self, found: Sequence[Broadcast], /) -> None:
        """Show the broadcasts."""
        ...

    def print_line(self, text: str, /) -> None:
        """Print a line beside the figures."""
        ...


@contextmanager
def _progress_view(slugs: dict[BroadcastId, str]) -> Iterator[ProgressView]:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield PlainProgress(console, slugs)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[way]}"),
        RateColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, speed_estimate_period=RATE_WINDOW_SECONDS) as bars:
        yield LiveProgress(bars, slugs)


class RateColumn(ProgressColumn):
    """Column with the rate."""

    def render(self, task: Task) -> Text:
        """Render the rate."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s")


class LiveProgress:
    """Progress bars on a terminal."""

    def __init__(self, bars: Progress, slugs: dict[BroadcastId, str]) -> None:
        self._progress = bars
        self._tasks: dict[BroadcastId, TaskID] = {
            broadcast_id: bars.add_task(f"{broadcast_id} {slug}", total=None, way="", note="")
            for broadcast_id, slug in slugs.items()
        }

    def __call__(self, found: Sequence[Broadcast]) -> None:
        """Show the broadcasts."""
        for one in found:
            done, total = _done_and_total(one)
            way = f"{done:,} of {total:,}"
            self._progress.update(self._tasks[one.id], completed=done, total=total, way=way, note=_note(one))

    def print_line(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, markup=False)


class PlainProgress:
    """Progress as lines: one for each broadcast at first, then at intervals."""

    def __init__(self, console: Console, slugs: dict[BroadcastId, str]) -> None:
        self._console = console
        self._slugs = slugs
        self._next_line_at = 0.0

    def __call__(self, found: Sequence[Broadcast]) -> None:
        """Show the broadcasts."""
        if clock.monotonic() < self._next_line_at:
            return
        self._next_line_at = clock.monotonic() + LINE_INTERVAL_SECONDS
        for one in found:
            now = progress(one, clock.now())
            speed = "" if now.per_second is None else f", {now.per_second:,.1f}/s"
            eta = "" if now.eta_seconds is None else f", {now.eta_seconds:,.0f} s left"
            done, total = _done_and_total(one)
            said = f"broadcast {one.id} of {self._slugs[one.id]}: {done:,} of {total:,}{speed}{eta}; {_note(one)}"
            self._console.print(said, markup=False)

    def print_line(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)


def _done_and_total(one: Broadcast) -> tuple[int, int]:
    """Return the progress and the total."""
    if one.state not in {BroadcastState.UNDOING, BroadcastState.UNDONE}:
        return one.done, one.recipients
    undone = one.counts.get(DeliveryStatus.UNDONE, 0)
    return undone, undone + one.counts.get(DeliveryStatus.SENT, 0) + one.counts.get(DeliveryStatus.PARTIAL, 0)


def _note(one: Broadcast) -> str:
    if one.state is BroadcastState.SCHEDULED:
        return start_text(one)
    if one.state is BroadcastState.RUNNING and not one.done and not one.in_flight:
        if one.reason is not None:
            return one.reason
        return "waits for its media and a worker" if one.gate and one.message.media else "waits for a worker"
    return " · ".join(f"{count:,} {outcome}" for outcome, count in one.counts.items() if count) or one.state


def start_text(one: Broadcast) -> str:
    """Describe the start time of a scheduled broadcast."""
    return f"starts {one.starts_at.astimezone():%Y-%m-%d %H:%M:%S %Z}" if one.starts_at is not None else "starts now"
