"""One lane a bot: the one place through which its background work flows."""

from telewarm.lanes.bots import Bots, LiveBot
from telewarm.lanes.control import Control, LaneStatus, Status
from telewarm.lanes.floods import count_flood
from telewarm.lanes.lane import Lane, LaneLimits
from telewarm.lanes.report import Report
from telewarm.lanes.seated import Both, MakeRunner
from telewarm.lanes.wake import wake, wake_siblings
from telewarm.lanes.work import Budget, Job, Runner, Work
from telewarm.lanes.worker import MakeLane, Seat, Worker, WorkerLimits

__all__ = [
    "Both",
    "Bots",
    "Budget",
    "Control",
    "Job",
    "Lane",
    "LaneLimits",
    "LaneStatus",
    "LiveBot",
    "MakeLane",
    "MakeRunner",
    "Report",
    "Runner",
    "Seat",
    "Status",
    "Work",
    "Worker",
    "WorkerLimits",
    "count_flood",
    "wake",
    "wake_siblings",
]
