"""What a worker does for one bot: its warm-ups and its broadcasts, in its lane, as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from telewarm.broadcast.deliveries import Deliveries
from telewarm.database.connection import Pool
from telewarm.database.leases import Lease
from telewarm.database.warmups import Failed
from telewarm.lanes import Both, Bots, Control, Lane, LaneLimits, Report, Seat, Worker, WorkerLimits
from telewarm.model import Placed
from telewarm.placements import Placements
from telewarm.sender import Sender
from telewarm.settings import Settings
from telewarm.warmup import InHand, Retries, WarmUps

DRAIN = 7.0  # seconds that running lanes have to end what is in flight; a supervisor often waits ten for all of us


@dataclass(frozen=True, kw_only=True, slots=True)
class BotWork:
    """Makes each bot's lane: its warm-ups and its deliveries, inside its limits."""

    settings: Settings
    pool: Pool
    vital: Pool
    lease: Lease
    placements: Placements
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

    def control(self, bots: Bots) -> Control:
        limits = self.limits
        control = Control(
            lambda: Worker(pool=self.pool, vital=self.vital, live_bots=bots, make_lane=self.make, limits=limits),
            limits,
            drain=DRAIN,
            on_change=self.lease.hurry,
        )
        self.lease.worker = Report(control)
        return control

    def make(self, seat: Seat) -> Both:
        parts = (partial(self._warmups, seat), partial(self._deliveries, seat))
        return Both(parts, stop=seat.stop, crowded=seat.crowded)

    def _warmups(self, seat: Seat) -> Lane[InHand, Placed | Failed]:
        live = seat.live
        return Lane(
            WarmUps(pool=self.pool, lease=self.lease, live=live, placements=self.placements, retries=self.retries),
            live.traffic,
            limits=LaneLimits(concurrency=self.limits.concurrency),
            budget=seat.budget,
            stop=seat.stop,
            crowded=seat.crowded,
            on_closed=live.on_closed,
        )

    def _deliveries(self, seat: Seat) -> Deliveries:
        return Deliveries(
            pool=self.pool,
            lease=self.lease,
            live=seat.live,
            sender=self.sender,
            stop=seat.stop,
            crowded=seat.crowded,
            concurrency=self.settings.telewarm_broadcast_concurrency,
            on_sending=self.on_sending,
        )
