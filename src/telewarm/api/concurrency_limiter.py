"""Adaptive concurrency limit. Requests above it get 503 at once, so that accepted ones keep a low latency.

An overloaded process is slow for everybody. Its event loop shows how slow: the lag between a timer's due time and its
run is what each step of each request waits for. So each class of requests has a limit on those in flight, which shrinks
while the loop lags and grows again when it does not. Requests that wait for a flood wait, a warm-up or their own client
do nothing, and are counted separately as idle.
"""

from __future__ import annotations

import asyncio
import random
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import structlog

from telewarm import clock, metrics

log = structlog.get_logger(__name__)


class RequestClass(StrEnum):
    """Request class. Each class has a separate limit, so that one cannot starve another."""

    SEND = "send"
    UPLOAD = "upload"
    OTHER = "other"


MIN_LIMIT, MAX_LIMIT = 64, 1024  # requests under way, of each work
MAX_RECEIVED = (
    128  # uploads whose bytes are here: disk and database are what they wait for, and the loop is not late then
)
MAX_IDLE = 8192  # requests that wait, of all works
LOOP_LAG_HIGH_SECONDS, LOOP_LAG_LOW_SECONDS = (
    0.008,
    0.004,
)  # seconds that the loop is late on average: fewer places then, or more
DECREASE_FACTOR, INCREASE_FACTOR = 0.5, 1.25  # at most, from one change to the next
SAMPLE_INTERVAL_SECONDS = 0.01  # seconds between looks while requests are under way
SAMPLES_PER_ADJUSTMENT = 10  # between two changes, or as many as tell that the loop is late
MAX_SAMPLE_SECONDS = (
    LOOP_LAG_HIGH_SECONDS * SAMPLES_PER_ADJUSTMENT / 2
)  # seconds that one look may tell at most: anything may be late once
BODY_STALL_SECONDS = 0.5  # seconds after which a request whose body does not come has no place
RETRY_AFTER_RANGE_SECONDS = (
    1,
    3,
)  # seconds after which a client that was refused may ask again: not all of them at once

SEND_PATH_SUFFIX = "/send"  # as paths end
UPLOAD_PATH_SUFFIXES = ("/media", "/media/batch", "/recipients")
UNLIMITED_PATHS = frozenset({"/healthz", "/readyz", "/health", "/metrics", "/docs", "/redoc", "/openapi.json"})


def class_of(method: str, path: str) -> RequestClass | None:
    """Return the class of a request. None: never refused, so that an operator can always look."""
    if method == "POST":
        if path.endswith(SEND_PATH_SUFFIX):
            return RequestClass.SEND
        if path.endswith(UPLOAD_PATH_SUFFIXES):
            return RequestClass.UPLOAD
    return None if path in UNLIMITED_PATHS else RequestClass.OTHER


def next_limit(limit: int, *, lag: float, peak: int) -> int:
    """Return the limit after `SAMPLES_PER_ADJUSTMENT` samples.

    `lag`: their mean, in seconds; `peak`: the most requests in flight of any class.
    """
    if lag > LOOP_LAG_HIGH_SECONDS:
        return max(MIN_LIMIT, int(min(limit, peak) * max(DECREASE_FACTOR, LOOP_LAG_HIGH_SECONDS / lag)))
    return min(MAX_LIMIT, int(limit * INCREASE_FACTOR)) if lag < LOOP_LAG_LOW_SECONDS else limit


class RequestSlot:
    """Slot of one request. Enter it while the request waits for something external; otherwise it is in flight."""

    __slots__ = (
        "_body_received",
        "_body_stalled",
        "_idle_depth",
        "_limiter",
        "cancelled_by_shutdown",
        "receiving_since",
        "request_class",
        "response_started",
        "task",
    )

    def __init__(self, limiter: AdaptiveConcurrencyLimiter, request_class: RequestClass) -> None:
        self._limiter = limiter
        self._idle_depth = 0
        self._body_stalled = self._body_received = False
        self.request_class = request_class
        self.task: asyncio.Task[Any] | None = None
        self.receiving_since: float | None = None  # monotonic: when it began to wait for its client
        self.response_started = False
        self.cancelled_by_shutdown = False  # from outside: the process stops

    def __enter__(self) -> Self:
        self._change_idle_depth(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._change_idle_depth(-1)

    def _change_idle_depth(self, delta: int) -> None:
        """Change the number of reasons to be idle."""
        waited, self._idle_depth = self._idle_depth > 0, self._idle_depth + delta
        if not self.response_started:
            self._limiter.move_to_idle(self.request_class, (self._idle_depth > 0) - waited)

    def check_stall(self, now: float) -> None:
        """Mark the request as idle when its body has stalled."""
        if (
            self.receiving_since is not None
            and not self._body_stalled
            and now - self.receiving_since > BODY_STALL_SECONDS
        ):
            self._body_stalled = True
            self._change_idle_depth(1)

    def on_received(self, *, complete: bool) -> None:
        """Note received bytes of the body."""
        self.receiving_since = None
        if (
            complete
            and self.request_class is RequestClass.UPLOAD
            and not self._body_received
            and not self.response_started
        ):
            self._body_received = True
            self._limiter.received += 1
        if self._body_stalled:
            self._body_stalled = False
            self._change_idle_depth(-1)

    def finish(self) -> None:
        """Note the end of the response."""
        self.release()
        self._limiter.forget_slot(self)

    def release(self) -> None:
        """Release the slot when the response begins, or will not come. May be repeated."""
        if not self.response_started:
            self.response_started = True
            self._limiter.release_slot(self, was_idle=self._idle_depth > 0)
            self._limiter.received -= self._body_received


class AdaptiveConcurrencyLimiter:
    """Concurrency limits of one process."""

    def __init__(self) -> None:
        self.limit = MAX_LIMIT
        self.in_flight = dict.fromkeys(RequestClass, 0)
        self.received = 0
        self.idle = 0
        self._counted_slots: set[RequestSlot] = set()
        self._open_slots: set[RequestSlot] = set()  # those whose answer is on its way too
        self._lag_sum = 0.0
        self._samples = 0
        self._sample_due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._logged_at = 0.0
        self._rejected = 0  # since it was told
        metrics.admitting(places=self.limit, late=0.0)

    def acquire(self, request_class: RequestClass) -> RequestSlot | None:
        """Return a slot; None: the request is refused."""
        full = self.in_flight[request_class] >= self.limit or self.idle >= MAX_IDLE
        if full or (request_class is RequestClass.UPLOAD and self.received >= MAX_RECEIVED):
            self._reject(request_class)
            return None
        self.in_flight[request_class] += 1
        place = RequestSlot(self, request_class)
        self._counted_slots.add(place)
        self._open_slots.add(place)
        if self._timer is None:
            self._schedule_sample()
        return place

    def move_to_idle(self, request_class: RequestClass, count: int) -> None:
        """Count so many requests as idle instead of in flight."""
        self.in_flight[request_class] -= count
        self.idle += count

    def release_slot(self, slot: RequestSlot, *, was_idle: bool) -> None:
        """Return a slot to its class."""
        self._counted_slots.discard(slot)
        if was_idle:
            self.idle -= 1
        else:
            self.in_flight[slot.request_class] -= 1

    def forget_slot(self, slot: RequestSlot) -> None:
        """Forget the slot of an ended request."""
        self._open_slots.discard(slot)

    def cancel_all(self) -> None:
        """Cancel all requests in progress, for a shutdown."""
        for place in self._open_slots:
            place.cancelled_by_shutdown = True
            if place.task is not None:
                place.task.cancel()

    def _schedule_sample(self) -> None:
        self._sample_due_at = clock.monotonic() + SAMPLE_INTERVAL_SECONDS
        self._timer = asyncio.get_running_loop().call_later(SAMPLE_INTERVAL_SECONDS, self._sample)

    def _sample(self) -> None:
        now = clock.monotonic()
        self._lag_sum += min(max(0.0, now - self._sample_due_at), MAX_SAMPLE_SECONDS)
        self._samples += 1
        if self._samples == SAMPLES_PER_ADJUSTMENT or self._lag_sum > SAMPLES_PER_ADJUSTMENT * LOOP_LAG_HIGH_SECONDS:
            self._adjust_limit(now)
        self._timer = None
        if self._counted_slots:
            self._schedule_sample()

    def _adjust_limit(self, now: float) -> None:
        late = self._lag_sum / SAMPLES_PER_ADJUSTMENT
        self.limit = next_limit(self.limit, lag=late, peak=max(self.in_flight.values()))
        self._lag_sum, self._samples = 0.0, 0
        metrics.admitting(places=self.limit, late=late)
        for place in self._counted_slots:
            place.check_stall(now)

    def _reject(self, request_class: RequestClass) -> None:
        metrics.refused(request_class)
        self._rejected += 1
        now = clock.monotonic()
        if now - self._logged_at >= 1.0:
            self._logged_at = now
            counts = {f"{one}s": count for one, count in self.in_flight.items()}
            log.warning("requests_rejected", refused=self._rejected, places=self.limit, idle=self.idle, **counts)
            self._rejected = 0


def retry_after_seconds() -> int:
    """Return a random number of seconds, so that clients do not return together."""
    return random.randint(*RETRY_AFTER_RANGE_SECONDS)  # noqa: S311 - no secret
