"""Background work of one bot for its lane: warm-ups and broadcasts, by the settings."""

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
from telewarm.warmup.policy import RetryLimits
from telewarm.warmup.work import WarmupTask, WarmupWork
from telewarm.worker.composite_runner import CompositeRunner
from telewarm.worker.lane import Lane, LaneLimits
from telewarm.worker.status_reporter import WorkerStatusReporter
from telewarm.worker.supervisor import WorkerSupervisor
from telewarm.worker.worker import LaneContext, Worker, WorkerLimits

DRAIN_SECONDS = 7.0  # seconds for lanes to finish what is in flight; process supervisors often allow ten in all


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneFactory:
    """Creates each bot's lane: its warm-ups and its deliveries, within its limits."""

    settings: Settings
    pool: Pool
    heartbeat_pool: Pool
    lease: ProcessLease
    uploader: FileIdUploader
    sender: Sender
    on_sending: Callable[[], None]

    @property
    def limits(self) -> WorkerLimits:
        """Limits of the worker."""
        return WorkerLimits(
            interval=self.settings.media_prewarm_interval_ms / 1000,
            held=self.settings.media_prewarm_max_queue,
            concurrency=self.settings.media_prewarm_concurrency,
        )

    @property
    def retries(self) -> RetryLimits:
        """Retry limits of warm-ups."""
        return RetryLimits(
            limit=self.settings.telewarm_retry_limit,
            base_seconds=self.settings.telewarm_retry_base_ms / 1000,
            max_seconds=self.settings.telewarm_retry_max_ms / 1000,
            weak_id_attempts=self.settings.media_prewarm_retry_weak_id,
        )

    def make_supervisor(self, bots: BotRegistry) -> WorkerSupervisor:
        """Create the supervisor of this process's worker."""
        limits = self.limits
        control = WorkerSupervisor(
            lambda: Worker(
                pool=self.pool,
                heartbeat_pool=self.heartbeat_pool,
                registry=bots,
                make_lane=self.make_lane_runner,
                limits=limits,
            ),
            limits,
            drain_seconds=DRAIN_SECONDS,
            on_change=self.lease.renew_now,
        )
        self.lease.describe_worker = WorkerStatusReporter(control)
        return control

    def make_lane_runner(self, context: LaneContext) -> CompositeRunner:
        """Create the runner of a bot's lane."""
        parts = (partial(self._make_warmup_lane, context), partial(self._make_broadcast_scheduler, context))
        return CompositeRunner(parts, stop=context.stop, has_waiting_lanes=context.has_waiting_lanes)

    def _make_warmup_lane(self, context: LaneContext) -> Lane[WarmupTask, UploadResult | WarmupFailure]:
        session = context.session
        return Lane(
            WarmupWork(pool=self.pool, lease=self.lease, session=session, uploader=self.uploader, retries=self.retries),
            session.limiter,
            limits=LaneLimits(concurrency=self.limits.concurrency),
            budget=context.budget,
            stop=context.stop,
            has_waiting_lanes=context.has_waiting_lanes,
            on_pause=session.on_pause,
        )

    def _make_broadcast_scheduler(self, context: LaneContext) -> BroadcastScheduler:
        return BroadcastScheduler(
            pool=self.pool,
            lease=self.lease,
            session=context.session,
            sender=self.sender,
            stop=context.stop,
            has_waiting_lanes=context.has_waiting_lanes,
            concurrency=self.settings.telewarm_broadcast_concurrency,
            on_sending=self.on_sending,
        )
