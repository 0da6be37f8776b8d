"""Reports the worker's status to subscribers of events."""

from __future__ import annotations

import math
from collections.abc import Mapping

from telewarm import clock
from telewarm.worker.supervisor import WorkerSupervisor

INTERVAL_SECONDS = 5.0  # seconds between two sets of figures, while the state stays the same


class WorkerStatusReporter:
    """Called often, it says the same until there is news. None before the worker was ever started."""

    def __init__(self, control: WorkerSupervisor) -> None:
        self._control = control
        self._said: Mapping[str, object] | None = None
        self._state = "stopped"
        self._again_at = -math.inf

    def __call__(self) -> Mapping[str, object] | None:
        status, now = self._control.status(), clock.monotonic()
        if status.state != self._state or (status.running and now >= self._again_at):
            self._state, self._again_at = status.state, now + INTERVAL_SECONDS
            self._said = {
                "state": status.state,
                "since": status.since,
                "lanes": len(status.lanes),
                "in_flight": status.in_flight,
                "held": status.held,
            }
        return self._said
