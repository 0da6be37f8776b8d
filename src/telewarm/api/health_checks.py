"""Health checks of what this process depends on, each with a timeout, cached for a moment."""

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
from telewarm.database.migrate import check_migrated, head
from telewarm.database.transient import as_outage
from telewarm.errors import StoreUnavailable, TelewarmError
from telewarm.logs import redact
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.object_store import BlobStore
from telewarm.telegram.transport import Transport
from telewarm.worker.supervisor import WorkerSupervisor

log = structlog.get_logger(__name__)

SECONDS = 3.0  # that a look may take: probes mostly wait for some
KEPT = 1.0  # seconds that a finding answers: whoever asks more often costs nothing
KEPT_MIGRATED = 30.0  # the schema seldom changes, and the look is the dearest
LEAST_FREE = 64 << 20  # bytes of disk without which uploads would fail soon

BUG = "an error of ours: the log has it"

Facts: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """`error`: what is wrong and the cure, for people with a token; None: nothing. `facts`: more, by word."""

    error: str | None
    took: float  # seconds
    facts: Facts = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.error is None


class CachedCheck:
    """However many ask at once, one look answers them all."""

    def __init__(self, look: Callable[[], Awaitable[Facts]], *, seconds: float = SECONDS, kept: float = KEPT) -> None:
        self._look = look
        self._seconds = seconds
        self._kept = kept
        self._found: CheckResult | None = None
        self._until = -inf  # monotonic
        self._turn = asyncio.Lock()

    async def __call__(self) -> CheckResult:
        async with self._turn:
            if self._found is None or clock.monotonic() >= self._until:
                self._found = await self._look_now()
                self._until = clock.monotonic() + (self._kept if self._found.ok else min(KEPT, self._kept))
            return self._found

    async def _look_now(self) -> CheckResult:
        began = clock.monotonic()
        error: str | None = None
        facts: Facts = {}
        try:
            async with asyncio.timeout(self._seconds) as limit:
                facts = await self._look()
        except TelewarmError as known:
            error = known.message
        except Exception as unknown:
            ours = as_outage(unknown)
            if ours is None:
                log.exception("health_check_failed", error=type(unknown).__name__)
            error = f"no answer within {self._seconds:g} s" if limit.expired() else ours.message if ours else BUG
        return CheckResult(error=error and redact(error), took=clock.monotonic() - began, facts=facts)


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthDependencies:
    """What is looked at."""

    pool: Pool
    store: BlobStore
    spool: BlobCache
    worker: WorkerSupervisor
    transport: Transport
    api_root: str


class HealthChecks:
    """`needed`: what this process cannot work without. `telegram` is told, and no reason not to be ready."""

    def __init__(self, ground: HealthDependencies) -> None:
        self.ground = ground
        self._needed = {
            "database": CachedCheck(lambda: _database(ground.pool)),
            "migrations": CachedCheck(lambda: _migrations(ground.pool), kept=KEPT_MIGRATED),
            "store": CachedCheck(lambda: _store(ground.store)),
            "spool": CachedCheck(lambda: _spool(ground.spool)),
        }
        self._working = CachedCheck(lambda: _working(ground.worker), kept=0)
        self._work = CachedCheck(lambda: _work(ground.pool))
        self._telegram = CachedCheck(lambda: _telegram(ground.transport, ground.api_root))
        self.started = clock.monotonic()

    async def needed(self) -> dict[str, CheckResult]:
        """By name. The worker is one of them while this process runs one."""
        if not self.ground.worker.status().running:
            return await _all(self._needed)
        needed, untaken = await asyncio.gather(_all(self._needed | {"worker": self._working}), self.untaken())
        return needed | untaken  # due work is the task of this process's worker

    async def untaken(self) -> dict[str, CheckResult]:
        """`work`, when some is due that nobody takes, in whatever process. Empty when all is well, or unknown."""
        found = await self._work()
        message = found.facts.get("untaken")
        return {} if message is None else {"work": CheckResult(error=str(message), took=found.took)}

    async def everything(self) -> tuple[dict[str, CheckResult], CheckResult]:
        """What is needed, and Telegram."""
        needed, telegram = await asyncio.gather(self.needed(), self._telegram())
        return needed, telegram

    async def log_problems(self) -> None:
        """Warn of what is missing: for whoever looks at the log after a start, and before the first request fails."""
        needed, telegram = await self.everything()
        for name, found in {**needed, "telegram": telegram, **await self.untaken()}.items():
            if not found.ok:
                log.warning("dependency_unavailable", dependency=name, error=found.error)


async def _all(checks: Mapping[str, CachedCheck]) -> dict[str, CheckResult]:
    found = await asyncio.gather(*(check() for check in checks.values()))
    return dict(zip(checks, found, strict=True))


async def _database(pool: Pool) -> Facts:
    async with pool.acquire() as connection:
        await connection.fetchval("SELECT 1")
        version = connection.get_settings().server_version.split()[0]  # the driver's own numbers call 15.18 15.0
    return {
        "version": version,
        "connections": pool.get_size(),
        "idle": pool.get_idle_size(),
        "most": pool.get_max_size(),
    }


async def _migrations(pool: Pool) -> Facts:
    await check_migrated(pool)
    return {"revision": head()}


async def _store(store: BlobStore) -> Facts:
    await store.look()
    return {}


async def _spool(spool: BlobCache) -> Facts:
    try:
        disk = await spool.look()
    except TimeoutError:
        raise StoreUnavailable("the disk of TELEWARM_DATA does not answer: check it") from None
    if disk.free < LEAST_FREE:
        raise StoreUnavailable(f"the disk of TELEWARM_DATA has {disk.free} bytes left: make room on it")
    return {
        "free_bytes": disk.free,
        "total_bytes": disk.total,
        "spooled_bytes": disk.spooled,
        "most_bytes": disk.most,
    }


async def _working(worker: WorkerSupervisor) -> Facts:
    status = worker.status()
    if status.draining:
        raise TelewarmError("the worker was told to stop, and ends what is in flight")
    if status.failing:
        raise TelewarmError("a bug ended the worker a moment ago, and another took its place: the log has it")
    return {"lanes": len(status.lanes), "in_flight": status.in_flight, "held": status.held}


async def _work(pool: Pool) -> Facts:
    untaken = await queue_snapshot.untaken(pool)
    return {} if untaken is None else {"untaken": untaken.message}


async def _telegram(transport: Transport, root: str) -> Facts:
    await transport.reach(root, timeout=SECONDS)
    return {"root": root}
