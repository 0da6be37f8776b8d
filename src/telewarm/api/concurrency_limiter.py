"""Adaptive concurrency limit. Requests above it get 503 at once, so that accepted ones keep a low latency.

A process that has too much to do answers everybody late. How late it is shows in its event loop: the time from when a
timer is due until it runs is what each step of each request waits for. So requests of each work may be under way up to
a number, which shrinks while the loop is late and grows again when it is not. Requests that wait for a flood's end, for
a warm-up or for their own client do nothing, and are counted apart: a bot that must wait takes no place from others.
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
    """What has places of its own, so that none takes those of another."""

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
ADJUST_INTERVAL_SECONDS = 0.01  # seconds between looks while requests are under way
LOOKS = 10  # between two changes, or as many as tell that the loop is late
MAX_SAMPLE_SECONDS = (
    LOOP_LAG_HIGH_SECONDS * LOOKS / 2
)  # seconds that one look may tell at most: anything may be late once
BODY_STALL_SECONDS = 0.5  # seconds after which a request whose body does not come has no place
RETRY_AFTER_SECONDS = (1, 3)  # seconds after which a client that was refused may ask again: not all of them at once

SENDING = "/send"  # as paths end
UPLOADING = ("/media", "/media/batch", "/recipients")
NEVER_REFUSED = frozenset({"/healthz", "/readyz", "/health", "/metrics", "/docs", "/redoc", "/openapi.json"})


def class_of(method: str, path: str) -> RequestClass | None:
    """None: it is never refused, so that an operator can always look."""
    if method == "POST":
        if path.endswith(SENDING):
            return RequestClass.SEND
        if path.endswith(UPLOADING):
            return RequestClass.UPLOAD
    return None if path in NEVER_REFUSED else RequestClass.OTHER


def next_limit(places: int, *, late: float, busiest: int) -> int:
    """How many after `LOOKS` looks. `late`: seconds, their mean; `busiest`: the most under way of any work."""
    if late > LOOP_LAG_HIGH_SECONDS:
        return max(MIN_LIMIT, int(min(places, busiest) * max(DECREASE_FACTOR, LOOP_LAG_HIGH_SECONDS / late)))
    return min(MAX_LIMIT, int(places * INCREASE_FACTOR)) if late < LOOP_LAG_LOW_SECONDS else places


class RequestSlot:
    """One request's. Entered while it is parked; it is under way else."""

    __slots__ = (
        "_admission",
        "_stands_still",
        "_taken_in",
        "_waits",
        "answered",
        "ended",
        "receives_since",
        "task",
        "work",
    )

    def __init__(self, admission: AdaptiveConcurrencyLimiter, work: RequestClass) -> None:
        self._admission = admission
        self._waits = 0
        self._stands_still = self._taken_in = False
        self.work = work
        self.task: asyncio.Task[Any] | None = None
        self.receives_since: float | None = None  # monotonic: when it began to wait for its client
        self.answered = False
        self.ended = False  # from outside: the process stops

    def __enter__(self) -> Self:
        self._wait(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(-1)

    def _wait(self, more: int) -> None:
        """For so many things more than before."""
        waited, self._waits = self._waits > 0, self._waits + more
        if not self.answered:
            self._admission.mark_idle(self.work, (self._waits > 0) - waited)

    def look(self, now: float) -> None:
        """Park it when nothing came of its body for long."""
        if (
            self.receives_since is not None
            and not self._stands_still
            and now - self.receives_since > BODY_STALL_SECONDS
        ):
            self._stands_still = True
            self._wait(1)

    def received(self, *, all_of_it: bool) -> None:
        """Something came of its body."""
        self.receives_since = None
        if all_of_it and self.work is RequestClass.UPLOAD and not self._taken_in and not self.answered:
            self._taken_in = True
            self._admission.received += 1
        if self._stands_still:
            self._stands_still = False
            self._wait(-1)

    def gone(self) -> None:
        """All of its answer is out, or nothing more comes."""
        self.leave()
        self._admission.gone(self)

    def leave(self) -> None:
        """Its answer has begun, or will not come. Nothing happens the second time."""
        if not self.answered:
            self.answered = True
            self._admission.left(self, parked=self._waits > 0)
            self._admission.received -= self._taken_in


class AdaptiveConcurrencyLimiter:
    """The places of one process."""

    def __init__(self) -> None:
        self.limits = MAX_LIMIT
        self.in_flight = dict.fromkeys(RequestClass, 0)
        self.received = 0
        self.idle = 0
        self._taken: set[RequestSlot] = set()
        self._running: set[RequestSlot] = set()  # those whose answer is on its way too
        self._late = 0.0
        self._looks = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = 0.0
        self._refused = 0  # since it was told
        metrics.admitting(places=self.limits, late=0.0)

    def enter(self, work: RequestClass) -> RequestSlot | None:
        """None: it is refused."""
        full = self.in_flight[work] >= self.limits or self.idle >= MAX_IDLE
        if full or (work is RequestClass.UPLOAD and self.received >= MAX_RECEIVED):
            self._refuse(work)
            return None
        self.in_flight[work] += 1
        place = RequestSlot(self, work)
        self._taken.add(place)
        self._running.add(place)
        if self._timer is None:
            self._look_soon()
        return place

    def mark_idle(self, work: RequestClass, count: int) -> None:
        """So many more requests are parked and not under way."""
        self.in_flight[work] -= count
        self.idle += count

    def left(self, place: RequestSlot, *, parked: bool) -> None:
        self._taken.discard(place)
        if parked:
            self.idle -= 1
        else:
            self.in_flight[place.work] -= 1

    def gone(self, place: RequestSlot) -> None:
        self._running.discard(place)

    def end(self) -> None:
        """Whoever is still there is cancelled; see `Place.ended`."""
        for place in self._running:
            place.ended = True
            if place.task is not None:
                place.task.cancel()

    def _look_soon(self) -> None:
        self._due = clock.monotonic() + ADJUST_INTERVAL_SECONDS
        self._timer = asyncio.get_running_loop().call_later(ADJUST_INTERVAL_SECONDS, self._look)

    def _look(self) -> None:
        now = clock.monotonic()
        self._late += min(max(0.0, now - self._due), MAX_SAMPLE_SECONDS)
        self._looks += 1
        if self._looks == LOOKS or self._late > LOOKS * LOOP_LAG_HIGH_SECONDS:
            self._adjust_limit(now)
        self._timer = None
        if self._taken:
            self._look_soon()

    def _adjust_limit(self, now: float) -> None:
        late = self._late / LOOKS
        self.limits = next_limit(self.limits, late=late, busiest=max(self.in_flight.values()))
        self._late, self._looks = 0.0, 0
        metrics.admitting(places=self.limits, late=late)
        for place in self._taken:
            place.look(now)

    def _refuse(self, work: RequestClass) -> None:
        metrics.refused(work)
        self._refused += 1
        now = clock.monotonic()
        if now - self._told_at >= 1.0:
            self._told_at = now
            counts = {f"{one}s": count for one, count in self.in_flight.items()}
            log.warning("requests_rejected", refused=self._refused, places=self.limits, parked=self.idle, **counts)
            self._refused = 0


def retry_after() -> int:
    """Seconds."""
    return random.randint(*RETRY_AFTER_SECONDS)  # noqa: S311 - no secret
