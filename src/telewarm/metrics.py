"""Prometheus metrics of this process. Every label has few values.

Counters and histograms count within this process. Queue lengths are read from the database at each scrape: one sample
for each of the `MAX_LABELLED_BOTS` deepest queues, and one for the sum of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from telewarm.models import Kind, UploadMethod

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # seconds
MAX_LABELLED_BOTS = 100
OTHER_BOTS_LABEL = "_other"  # no valid slug

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)


class WarmupResult(StrEnum):
    """Result of one attempt to warm an item."""

    OK = "ok"
    RETRY = "retry"
    ERROR = "error"


class FloodScope(StrEnum):
    """Scope that a 429 paused."""

    BOT = "bot"
    CHAT = "chat"
    SIZE = "size"


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmupTimings:
    """Seconds of a warm-up: in the queue, for the bytes, for the call with the file id, in all without the queue."""

    waited: float
    download: float = 0.0
    send: float = 0.0
    total: float


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSample:
    """One bot's queue. `head_age`: seconds that its first item has waited; None: the queue is empty."""

    slug: str
    due: int
    waiting: int  # in a back-off
    head_age: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessSample:
    """Resources of this process; None where the system does not tell."""

    memory_bytes: int | None
    cpu_seconds: float | None
    open_files: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsSnapshot:
    """State at a scrape. `queues` None: the database did not respond. `slots`: maximum of warm-ups in flight."""

    in_flight: int
    slots: int
    queues: Sequence[QueueSample] | None


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"telewarm_{name}", text, labels, registry=REGISTRY)


def _histogram(name: str, text: str) -> Histogram:
    return Histogram(f"telewarm_{name}_seconds", text, registry=REGISTRY, buckets=BUCKETS)


WARMUPS = _counter("warmups", "Tries to warm an item, by how they ended.", "outcome", "method", "kind")
RETRIES = _counter("warmup_retries", "Warm-ups that failed and are tried again.")
ERRORS = _counter("warmup_errors", "Failed warm-ups by class of error, tried again or not.", "code")
METHODS_USED = _counter("upload_methods", "File ids obtained, by method.", "method")
METHOD_FAILURES = _counter(
    "upload_method_failures", "Methods that failed, whether or not the next one worked.", "method"
)
WEAK_IDS = _counter("weak_ids", "File ids that may not last.")
UPLOADED = _counter("uploaded_bytes", "Bytes of files and thumbnails uploaded to Telegram.")
FLOODS = _counter("flood_waits", "Calls that Telegram answered with 429, by what that paused.", "scope")
FLOOD_SECONDS = _counter("flood_wait_seconds", "Seconds that Telegram asked to wait.", "scope")
DISK_CACHE_READS = _counter("disk_cache_reads", "Blobs opened, by whether they were in the disk cache.", "result")
REJECTED_REQUESTS = _counter("http_requests_rejected", "Requests rejected with OVERLOADED, by request class.", "class")
CONCURRENCY_LIMIT = Gauge(
    "telewarm_http_concurrency_limit", "Requests of each class that may be in flight.", registry=REGISTRY
)
LOOP_LAG = Gauge("telewarm_event_loop_lag_seconds", "Lag of the event loop while requests came in.", registry=REGISTRY)
ID_READS = _counter("file_id_reads", "File ids looked up for a send, by whether they were in memory.", "result")
QUEUE_WAIT = _histogram("queue_wait", "From asked for to begun.")
DOWNLOAD = _histogram("download", "Until the bytes were on local disk.")
SEND = _histogram("send", "The call that gave the file id.")
TOTAL = _histogram("warmup", "A warm-up from begun to done, all tries of ways included.")


@cache
def _bound(counter: Counter, *values: str) -> Counter:
    """Return a child of a counter. The values are enums, error codes and constants, so there are few."""
    return counter.labels(*values)


def warmup_succeeded(kind: Kind, way: UploadMethod, timings: WarmupTimings) -> None:
    """Count a warm-up and its times."""
    _bound(WARMUPS, WarmupResult.OK, way, kind).inc()
    QUEUE_WAIT.observe(timings.waited)
    DOWNLOAD.observe(timings.download)
    SEND.observe(timings.send)
    TOTAL.observe(timings.total)


def warmup_failed(kind: Kind, outcome: WarmupResult, code: str) -> None:
    """Count a failed attempt. `code`: of a TelewarmError."""
    _bound(WARMUPS, outcome, "none", kind).inc()
    _bound(ERRORS, code).inc()
    if outcome is WarmupResult.RETRY:
        RETRIES.inc()


def way_taken(way: UploadMethod, *, uploaded: int) -> None:
    """Count a successful upload method. `uploaded`: bytes."""
    _bound(METHODS_USED, way).inc()
    UPLOADED.inc(uploaded)


def way_failed(way: UploadMethod) -> None:
    """Count a failed upload method."""
    _bound(METHOD_FAILURES, way).inc()


def weak_id() -> None:
    """Count a weak file id."""
    WEAK_IDS.inc()


def flood_waited(scope: FloodScope, seconds: float) -> None:
    """Count a flood wait."""
    _bound(FLOODS, scope).inc()
    _bound(FLOOD_SECONDS, scope).inc(seconds)


def disk_cache_read(*, hit: bool) -> None:
    """Count a read of the disk cache."""
    _bound(DISK_CACHE_READS, "hit" if hit else "miss").inc()


def file_ids_read(*, hits: int, misses: int) -> None:
    """Count reads of the file id cache."""
    if hits:
        _bound(ID_READS, "hit").inc(hits)
    if misses:
        _bound(ID_READS, "miss").inc(misses)


def refused(work: str) -> None:
    """Count a refused request. `work`: one of few classes."""
    _bound(REJECTED_REQUESTS, work).inc()


def admitting(*, places: int, late: float) -> None:
    """Set the gauges of the concurrency limiter."""
    CONCURRENCY_LIMIT.set(places)
    LOOP_LAG.set(late)


def process() -> ProcessSample:
    """Return the resources of this process."""
    memory, cpu, files = (
        REGISTRY.get_sample_value(f"process_{name}")
        for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds")
    )
    return ProcessSample(
        memory_bytes=None if memory is None else int(memory),
        cpu_seconds=cpu,
        open_files=None if files is None else int(files),
    )


def render(snapshot: MetricsSnapshot) -> bytes:
    """Return all metrics in Prometheus's text format (`CONTENT_TYPE`)."""
    return generate_latest(REGISTRY) + generate_latest(SnapshotCollector(snapshot))


class SnapshotCollector(Collector):
    """Collects a snapshot."""

    def __init__(self, now: MetricsSnapshot) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the snapshot."""
        now = self._now
        yield _gauge("in_flight", "Warm-ups in flight in this process.", now.in_flight)
        share = now.in_flight / now.slots if now.slots else 0.0
        yield _gauge("utilisation", "Share of the places of this process's running lanes that are taken.", share)
        yield _gauge("database_up", "Whether the database answered this scrape.", now.queues is not None)
        if now.queues is not None:
            yield from _depths(now.queues)


def _depths(queues: Sequence[QueueSample]) -> Iterator[Metric]:
    due = GaugeMetricFamily("telewarm_queue_due", "Media to warm by bot, in hand or not.", labels=["bot"])
    waiting = GaugeMetricFamily("telewarm_queue_waiting", "Media that wait for a back-off to end.", labels=["bot"])
    age = GaugeMetricFamily("telewarm_queue_head_age_seconds", "How long the next one has waited.", labels=["bot"])
    for queue in largest_queues(queues):
        due.add_metric([queue.slug], queue.due)
        waiting.add_metric([queue.slug], queue.waiting)
        age.add_metric([queue.slug], queue.head_age or 0.0)
    yield from (due, waiting, age)


def largest_queues(queues: Iterable[QueueSample]) -> list[QueueSample]:
    """Return the deepest queues, and one for the rest: its media summed up, with the oldest age."""
    deepest = sorted(queues, key=lambda queue: (-queue.due - queue.waiting, queue.slug))
    named, rest = deepest[:MAX_LABELLED_BOTS], deepest[MAX_LABELLED_BOTS:]
    if not rest:
        return named
    ages = [queue.head_age for queue in rest if queue.head_age is not None]
    others = QueueSample(
        slug=OTHER_BOTS_LABEL,
        due=sum(queue.due for queue in rest),
        waiting=sum(queue.waiting for queue in rest),
        head_age=max(ages, default=None),
    )
    return [*named, others]


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"telewarm_{name}", text, value=value)
