"""One lane a bot: the one place through which its background work flows."""

from telewarm.lanes.bots import Bots, LiveBot
from telewarm.lanes.lane import Lane, LaneLimits
from telewarm.lanes.wake import wake, wake_siblings
from telewarm.lanes.work import Budget, Job, Work
from telewarm.lanes.worker import MakeLane, Worker, WorkerLimits

__all__ = [
    "Bots",
    "Budget",
    "Job",
    "Lane",
    "LaneLimits",
    "LiveBot",
    "MakeLane",
    "Work",
    "Worker",
    "WorkerLimits",
    "wake",
    "wake_siblings",
]
