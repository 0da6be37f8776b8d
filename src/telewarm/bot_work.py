"""The background work of one bot, for its lane: warm-ups and broadcasts, as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from telewarm.bots.registry import BotRegistry
from telewarm.broadcasts.scheduler import BroadcastScheduler
from telewarm.database.connection import Pool
from telewarm.database.leases import ProcessLease
from telewarm.database.warmups import WarmupFailure
from telewarm.file_ids.uploader import FileIdUploader
from telewarm.models import UploadResult
from telewarm.sending.sender import Sender
from telewarm.settings import Settings
from telewarm.warmup.policy import Retries
from telewarm.warmup.work import WarmupTask, WarmupWork
from telewarm.worker.composite_runner import CompositeRunner
from telewarm.worker.lane import Lane, LaneLimits
from telewarm.worker.status_reporter import WorkerStatusReporter
from telewarm.worker.supervisor import WorkerSupervisor
from telewarm.worker.worker import LaneContext, Worker, WorkerLimits

DRAIN = 7.0  # seconds that running lanes have to end what is in flight; a supervisor often waits ten for all of us


@dataclass(frozen=True, kw_only=True, slots=True)
class BotWork:
    """Makes each bot's lane: its warm-ups and its deliveries, inside its limits."""

    settings: Settings
    pool: Pool
    vital: Pool
    lease: ProcessLease
    placements: FileIdUploader
    sender: Sender
    on_sending: Callable[[], None]

    @property
    def limits(self) -> WorkerLimits:
        return WorkerLimits(
            interval=self.settings.media_prewarm_interval_ms / 1000,
            held=self.settings.media_prewarm_max_queue,
            concurrency=self.settings.media_prewarm_concurrency,
        )

    @property
    def retries(self) -> Retries:
        return Retries(
            limit=self.settings.telewarm_retry_limit,
            base=self.settings.telewarm_retry_base_ms / 1000,
            longest=self.settings.telewarm_retry_max_ms / 1000,
            weak_id=self.settings.media_prewarm_retry_weak_id,
        )

    def control(self, bots: BotRegistry) -> WorkerSupervisor:
        limits = self.limits
        control = WorkerSupervisor(
            lambda: Worker(pool=self.pool, vital=self.vital, live_bots=bots, make_lane=self.make, limits=limits),
            limits,
            drain=DRAIN,
            on_change=self.lease.hurry,
        )
        self.lease.worker = WorkerStatusReporter(control)
        return control

    def make(self, seat: LaneContext) -> CompositeRunner:
        parts = (partial(self._warmups, seat), partial(self._deliveries, seat))
        return CompositeRunner(parts, stop=seat.stop, has_waiting_lanes=seat.has_waiting_lanes)

    def _warmups(self, seat: LaneContext) -> Lane[WarmupTask, UploadResult | WarmupFailure]:
        live = seat.live
        return Lane(
            WarmupWork(pool=self.pool, lease=self.lease, live=live, placements=self.placements, retries=self.retries),
            live.limiter,
            limits=LaneLimits(concurrency=self.limits.concurrency),
            budget=seat.budget,
            stop=seat.stop,
            has_waiting_lanes=seat.has_waiting_lanes,
            on_pause=live.on_pause,
        )

    def _deliveries(self, seat: LaneContext) -> BroadcastScheduler:
        return BroadcastScheduler(
            pool=self.pool,
            lease=self.lease,
            live=seat.live,
            sender=self.sender,
            stop=seat.stop,
            has_waiting_lanes=seat.has_waiting_lanes,
            concurrency=self.settings.telewarm_broadcast_concurrency,
            on_sending=self.on_sending,
        )
