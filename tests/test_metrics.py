"""What the metrics say, and that no text of anybody's becomes a label."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from telewarm import errors, metrics
from telewarm.api.concurrency_limiter import RequestClass
from telewarm.metrics import (
    MAX_LABELLED_BOTS,
    OTHER_BOTS_LABEL,
    FloodScope,
    MetricsSnapshot,
    QueueSample,
    WarmupResult,
    WarmupTimings,
)
from telewarm.models import Kind, UploadMethod

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

queues = st.builds(
    QueueSample,
    slug=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True),
    due=st.integers(min_value=0, max_value=10**9),
    waiting=st.integers(min_value=0, max_value=100),
    head_age=st.none() | st.floats(min_value=0, max_value=1e6),
)
MANY = st.lists(queues, max_size=150, unique_by=lambda queue: queue.slug)
NOTHING = MetricsSnapshot(in_flight=0, slots=0, queues=())


def read(now: MetricsSnapshot = NOTHING) -> Samples:
    """Every sample by name and labels."""
    families = text_string_to_metric_families(metrics.render(now).decode())
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"telewarm_{name}", frozenset(labels.items())), 0.0)


def grown(before: Samples, name: str, **labels: str) -> float:
    return value(read(), name, **labels) - value(before, name, **labels)


def error_codes(kind: type[errors.TelewarmError] = errors.TelewarmError) -> set[str]:
    return {kind.code}.union(*map(error_codes, kind.__subclasses__()))


def test_a_warm_up_counts_once_by_way_and_kind_and_in_every_histogram() -> None:
    before = read()
    metrics.warmup_succeeded(
        Kind.PHOTO, UploadMethod.FORWARD, WarmupTimings(waited=0.004, download=0.0, send=0.2, total=400.0)
    )

    assert grown(before, "warmups_total", outcome="ok", method="forward", kind="photo") == 1
    for name, edge in (("queue_wait", "0.005"), ("download", "0.005"), ("send", "0.25"), ("warmup", "+Inf")):
        assert grown(before, f"{name}_seconds_count") == 1
        assert grown(before, f"{name}_seconds_bucket", le=edge) == 1
    assert grown(before, "send_seconds_bucket", le="0.1") == 0
    assert grown(before, "warmup_seconds_bucket", le="300.0") == 0


def test_failures_are_counted_by_class_and_only_retries_as_such() -> None:
    before = read()
    metrics.warmup_failed(Kind.VIDEO, WarmupResult.RETRY, "TELEGRAM_FAULT")
    metrics.warmup_failed(Kind.VIDEO, WarmupResult.ERROR, "TELEGRAM_FAULT")

    assert grown(before, "warmup_errors_total", code="TELEGRAM_FAULT") == 2
    assert grown(before, "warmup_retries_total") == 1
    assert grown(before, "warmups_total", outcome="error", method="none", kind="video") == 1


def test_floods_are_counted_by_what_they_paused_and_for_how_long() -> None:
    before = read()
    metrics.flood_waited(FloodScope.CHAT, 7)
    metrics.flood_waited(FloodScope.CHAT, 5)

    assert grown(before, "flood_waits_total", scope="chat") == 2
    assert grown(before, "flood_wait_seconds_total", scope="chat") == pytest.approx(12)


def test_reads_ways_and_bytes_are_counted() -> None:
    before = read()
    metrics.disk_cache_read(hit=True)
    metrics.disk_cache_read(hit=False)
    metrics.file_ids_read(hits=2, misses=1)
    metrics.way_taken(UploadMethod.UPLOAD, uploaded=500)
    metrics.way_failed(UploadMethod.URL)
    metrics.weak_id()

    assert (
        grown(before, "disk_cache_reads_total", result="hit")
        == grown(before, "disk_cache_reads_total", result="miss")
        == 1
    )
    assert grown(before, "file_id_reads_total", result="hit") == 2
    assert grown(before, "file_id_reads_total", result="miss") == 1
    assert grown(before, "upload_methods_total", method="upload") == 1
    assert grown(before, "uploaded_bytes_total") == 500
    assert grown(before, "upload_method_failures_total", method="url") == 1
    assert grown(before, "weak_ids_total") == 1


def test_utilisation_is_the_share_of_the_places_that_are_taken() -> None:
    busy = read(MetricsSnapshot(in_flight=3, slots=12, queues=()))
    assert (value(busy, "in_flight"), value(busy, "utilisation"), value(busy, "database_up")) == (3, 0.25, 1)
    assert value(read(MetricsSnapshot(in_flight=0, slots=0, queues=None)), "database_up") == 0


@given(MANY)
def test_the_deepest_queues_are_named_and_the_rest_is_summed_up(all_queues: Sequence[QueueSample]) -> None:
    shown = read(MetricsSnapshot(in_flight=0, slots=0, queues=all_queues))

    bots = {dict(labels)["bot"] for name, labels in shown if name == "telewarm_queue_due"}
    assert len(bots) == min(len(all_queues), MAX_LABELLED_BOTS + 1)
    assert (OTHER_BOTS_LABEL in bots) == (len(all_queues) > MAX_LABELLED_BOTS)
    assert sum(value(shown, "queue_due", bot=bot) for bot in bots) == sum(queue.due for queue in all_queues)
    assert sum(value(shown, "queue_waiting", bot=bot) for bot in bots) == sum(queue.waiting for queue in all_queues)
    oldest = max((queue.head_age or 0 for queue in all_queues), default=0)
    assert max((value(shown, "queue_head_age_seconds", bot=bot) for bot in bots), default=0) == oldest


def check_labels() -> None:
    """Whatever was counted in this process before: enums, codes, bucket edges, and the slugs of the deepest queues."""
    allowed = {
        "outcome": set(WarmupResult),
        "method": {*UploadMethod, "none"},
        "kind": set(Kind),
        "code": error_codes(),
        "scope": set(FloodScope),
        "result": {"hit", "miss"},
        "le": {str(float(edge)) for edge in metrics.BUCKETS} | {"+Inf"},
        "bot": {"shop"},
        "class": set(RequestClass),
    }
    queue = QueueSample(slug="shop", due=1, waiting=0, head_age=None)
    for _, labels in read(MetricsSnapshot(in_flight=1, slots=1, queues=[queue])):
        for name, text in labels:
            assert text in allowed[name]


def test_every_label_is_one_of_few_values() -> None:
    for kind in Kind:
        for way in UploadMethod:
            metrics.warmup_succeeded(kind, way, WarmupTimings(waited=0, total=0))
    for code in error_codes():
        metrics.warmup_failed(Kind.AUDIO, WarmupResult.RETRY, code)
    check_labels()
