"""Reports the worker's status to subscribers of events."""

from __future__ import annotations

import math
from collections.abc import Mapping

from telewarm import clock
from telewarm.worker.supervisor import WorkerSupervisor

REPORT_INTERVAL_SECONDS = 5.0  # seconds between two reports while the state stays the same


class WorkerStatusReporter:
    """Creates a report when the status has changed. None before the first start of the worker."""

    def __init__(self, supervisor: WorkerSupervisor) -> None:
        self._supervisor = supervisor
        self._last_report: Mapping[str, object] | None = None
        self._state = "stopped"
        self._next_report_at = -math.inf

    def __call__(self) -> Mapping[str, object] | None:
        """Return the latest report; None before the first start."""
        status, now = self._supervisor.status(), clock.monotonic()
        if status.state != self._state or (status.running and now >= self._next_report_at):
            self._state, self._next_report_at = status.state, now + REPORT_INTERVAL_SECONDS
            self._last_report = {
                "state": status.state,
                "since": status.since,
                "lanes": len(status.lanes),
                "in_flight": status.in_flight,
                "held": status.held,
            }
        return self._last_report
