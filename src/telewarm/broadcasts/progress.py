"""Progress of a broadcast, and its estimated end. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from telewarm.models import Broadcast, BroadcastState


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastProgress:
    """Progress figures.

    `left`: recipients without an outcome. `per_second`: recipients, averaged since the start, pauses included; None
    before there is an average. `eta_seconds`: until the end at that rate, while it runs.
    """

    done: int
    left: int
    percent: float
    per_second: float | None
    eta_seconds: float | None


def progress(broadcast: Broadcast, now: datetime) -> BroadcastProgress:
    """Return the progress at a time."""
    done, left = broadcast.done, broadcast.recipients - broadcast.done
    rate = _rate(broadcast, done, now)
    runs = broadcast.state is BroadcastState.RUNNING
    return BroadcastProgress(
        done=done,
        left=left,
        percent=round(100 * done / broadcast.recipients, 2) if broadcast.recipients else 0.0,
        per_second=rate and round(rate, 2),
        eta_seconds=round(left / rate, 1) if rate and runs else None,
    )


def _rate(broadcast: Broadcast, done: int, now: datetime) -> float | None:
    if broadcast.started_at is None:
        return None
    seconds = ((broadcast.ended_at or now) - broadcast.started_at).total_seconds()
    return done / seconds if seconds > 0 else None
