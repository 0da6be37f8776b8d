"""Health checks of this process's dependencies, each with a timeout, cached for a short time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TypeAlias

import structlog

from telewarm import clock
from telewarm.database import queue_snapshot
from telewarm.database.connection import Pool
from telewarm.database.migrate import check_migrated, newest_revision
from telewarm.database.transient import as_unavailable_error
from telewarm.errors import StoreUnavailable, TelewarmError
from telewarm.logs import redact
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.object_store import BlobStore
from telewarm.telegram.transport import Transport
from telewarm.worker.supervisor import WorkerSupervisor

log = structlog.get_logger(__name__)

CHECK_TIMEOUT_SECONDS = 3.0  # that a look may take: probes mostly wait for some
RESULT_TTL_SECONDS = 1.0  # seconds that a finding answers: whoever asks more often costs nothing
MIGRATION_RESULT_TTL_SECONDS = 30.0  # the schema seldom changes, and the look is the dearest
MIN_FREE_BYTES = 64 << 20  # bytes of disk without which uploads would fail soon

BUG_MESSAGE = "an error of ours: the log has it"

CheckDetails: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """`error`: problem and remedy, for people with a token; None: none. `details`: further values."""

    error: str | None
    seconds: float  # seconds
    details: CheckDetails = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return self.error is None


class CachedCheck:
    """Check with a cached result: concurrent callers share one run."""

    def __init__(
        self,
        check: Callable[[], Awaitable[CheckDetails]],
        *,
        timeout_seconds: float = CHECK_TIMEOUT_SECONDS,
        ttl_seconds: float = RESULT_TTL_SECONDS,
    ) -> None:
        self._check = check
        self._timeout_seconds = timeout_seconds
        self._ttl_seconds = ttl_seconds
        self._result: CheckResult | None = None
        self._expires_at = -inf  # monotonic
        self._lock = asyncio.Lock()

    async def __call__(self) -> CheckResult:
        """Return the cached result, or run the check."""
        async with self._lock:
            if self._result is None or clock.monotonic() >= self._expires_at:
                self._result = await self._run_check()
                self._expires_at = clock.monotonic() + (
                    self._ttl_seconds if self._result.ok else min(RESULT_TTL_SECONDS, self._ttl_seconds)
                )
            return self._result

    async def _run_check(self) -> CheckResult:
        began = clock.monotonic()
        error: str | None = None
        facts: CheckDetails = {}
        try:
            async with asyncio.timeout(self._timeout_seconds) as limit:
                facts = await self._check()
        except TelewarmError as known:
            error = known.message
        except Exception as unknown:
            ours = as_unavailable_error(unknown)
            if ours is None:
                log.exception("health_check_failed", error=type(unknown).__name__)
            error = (
                f"no answer within {self._timeout_seconds:g} s"
                if limit.expired()
                else ours.message
                if ours
                else BUG_MESSAGE
            )
        return CheckResult(error=error and redact(error), seconds=clock.monotonic() - began, details=facts)


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthDependencies:
    """Dependencies to check."""

    pool: Pool
    store: BlobStore
    disk_cache: BlobCache
    worker: WorkerSupervisor
    transport: Transport
    api_root: str


class HealthChecks:
    """`run_required`: what this process needs. `telegram` is reported, but does not affect readiness."""

    def __init__(self, dependencies: HealthDependencies) -> None:
        self.dependencies = dependencies
        self._required_checks = {
            "database": CachedCheck(lambda: _check_database(dependencies.pool)),
            "migrations": CachedCheck(
                lambda: _check_migrations(dependencies.pool), ttl_seconds=MIGRATION_RESULT_TTL_SECONDS
            ),
            "store": CachedCheck(lambda: _check_store(dependencies.store)),
            "spool": CachedCheck(lambda: _check_disk_cache(dependencies.disk_cache)),
        }
        self._worker_check = CachedCheck(lambda: _check_worker(dependencies.worker), ttl_seconds=0)
        self._untaken_work_check = CachedCheck(lambda: _check_untaken_work(dependencies.pool))
        self._telegram_check = CachedCheck(lambda: _check_telegram(dependencies.transport, dependencies.api_root))
        self.started_at = clock.monotonic()

    async def run_required(self) -> dict[str, CheckResult]:
        """Run the required checks. Returns the results by name, the worker among them if this process runs one."""
        if not self.dependencies.worker.status().running:
            return await _run_checks(self._required_checks)
        needed, untaken = await asyncio.gather(
            _run_checks(self._required_checks | {"worker": self._worker_check}), self.check_untaken_work()
        )
        return needed | untaken  # due work is the task of this process's worker

    async def check_untaken_work(self) -> dict[str, CheckResult]:
        """Return `work` when due work is taken by no process. Empty when there is none, or the state is unknown."""
        found = await self._untaken_work_check()
        message = found.details.get("untaken")
        return {} if message is None else {"work": CheckResult(error=str(message), seconds=found.seconds)}

    async def run_all(self) -> tuple[dict[str, CheckResult], CheckResult]:
        """Run the required checks and that of Telegram."""
        needed, telegram = await asyncio.gather(self.run_required(), self._telegram_check())
        return needed, telegram

    async def log_problems(self) -> None:
        """Log a warning for each problem, after a start and before the first request fails."""
        needed, telegram = await self.run_all()
        for name, found in {**needed, "telegram": telegram, **await self.check_untaken_work()}.items():
            if not found.ok:
                log.warning("dependency_unavailable", dependency=name, error=found.error)


async def _run_checks(checks: Mapping[str, CachedCheck]) -> dict[str, CheckResult]:
    found = await asyncio.gather(*(check() for check in checks.values()))
    return dict(zip(checks, found, strict=True))


async def _check_database(pool: Pool) -> CheckDetails:
    async with pool.acquire() as connection:
        await connection.fetchval("SELECT 1")
        version = connection.get_settings().server_version.split()[0]  # the driver's own numbers call 15.18 15.0
    return {
        "version": version,
        "connections": pool.get_size(),
        "idle": pool.get_idle_size(),
        "most": pool.get_max_size(),
    }


async def _check_migrations(pool: Pool) -> CheckDetails:
    await check_migrated(pool)
    return {"revision": newest_revision()}


async def _check_store(store: BlobStore) -> CheckDetails:
    await store.check_readable()
    return {}


async def _check_disk_cache(disk_cache: BlobCache) -> CheckDetails:
    try:
        disk = await disk_cache.check()
    except TimeoutError:
        raise StoreUnavailable("the disk of TELEWARM_DATA does not answer: check it") from None
    if disk.free < MIN_FREE_BYTES:
        raise StoreUnavailable(f"the disk of TELEWARM_DATA has {disk.free} bytes left: make room on it")
    return {
        "free_bytes": disk.free,
        "total_bytes": disk.total,
        "spooled_bytes": disk.cached,
        "most_bytes": disk.max_bytes,
    }


async def _check_worker(worker: WorkerSupervisor) -> CheckDetails:
    status = worker.status()
    if status.draining:
        raise TelewarmError("the worker was told to stop, and ends what is in flight")
    if status.failing:
        raise TelewarmError("a bug ended the worker a moment ago, and another took its place: the log has it")
    return {"lanes": len(status.lanes), "in_flight": status.in_flight, "held": status.held}


async def _check_untaken_work(pool: Pool) -> CheckDetails:
    untaken = await queue_snapshot.find_untaken_work(pool)
    return {} if untaken is None else {"untaken": untaken.message}


async def _check_telegram(transport: Transport, root: str) -> CheckDetails:
    await transport.reach(root, timeout=CHECK_TIMEOUT_SECONDS)
    return {"root": root}
