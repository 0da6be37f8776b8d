"""One lane a bot: the one place through which its background work flows."""

from telewarm.lanes.bots import BotRegistry, BotSession
from telewarm.lanes.control import LaneStatus, WorkerStatus, WorkerSupervisor
from telewarm.lanes.floods import count_flood
from telewarm.lanes.lane import Lane, LaneLimits
from telewarm.lanes.report import WorkerStatusReporter
from telewarm.lanes.seated import CompositeRunner, MakeRunner
from telewarm.lanes.wake import enqueue_lane, enqueue_sharing_lanes
from telewarm.lanes.work import ClaimBudget, Job, Runner, Work
from telewarm.lanes.worker import LaneContext, MakeLane, Worker, WorkerLimits

__all__ = [
    "BotRegistry",
    "BotSession",
    "ClaimBudget",
    "CompositeRunner",
    "Job",
    "Lane",
    "LaneContext",
    "LaneLimits",
    "LaneStatus",
    "MakeLane",
    "MakeRunner",
    "Runner",
    "Work",
    "Worker",
    "WorkerLimits",
    "WorkerStatus",
    "WorkerStatusReporter",
    "WorkerSupervisor",
    "count_flood",
    "enqueue_lane",
    "enqueue_sharing_lanes",
]
