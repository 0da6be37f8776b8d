"""Assembly of the components from Settings: build, open, close."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from telewarm import logs
from telewarm.api.audit_writer import AuditWriter
from telewarm.api.health_checks import HealthChecks, HealthDependencies
from telewarm.api.token_cache import ApiTokenCache
from telewarm.backup import BackupService
from telewarm.bot_work import LaneFactory
from telewarm.bots.registry import BotRegistry
from telewarm.bots.sessions import BotSessions
from telewarm.broadcasts.context import is_sending
from telewarm.broadcasts.service import BroadcastService
from telewarm.broadcasts.submissions import SubmissionService
from telewarm.component_config import (
    ServerToken,
    encryption_key,
    flood_limits,
    proxy,
    require_known_key,
    secret_values,
    server_token,
    store_config,
    token_cipher,
    url_policy,
)
from telewarm.database.connection import Pool
from telewarm.database.continuity import RestoreDetector
from telewarm.database.leases import ProcessLease
from telewarm.database.notifications import subscribe
from telewarm.database.pool import HEARTBEAT_POOL_SIZE, open_pool
from telewarm.database.ready import open_database_url
from telewarm.events.bus import EventBus
from telewarm.fetch import Fetcher
from telewarm.file_ids.uploader import FileIdUploader
from telewarm.media.garbage_collector import BlobGarbageCollector
from telewarm.media.ingest import LibraryLimits
from telewarm.media.library import MediaLibrary
from telewarm.media.preview_urls import PreviewUrlSigner
from telewarm.media.previews import PreviewService
from telewarm.probe import Probe
from telewarm.sending.chat_status import ChatStatusWriter
from telewarm.sending.file_id_cache import CHANNEL as MEDIA_CHANNEL
from telewarm.sending.file_id_cache import FileIdCache
from telewarm.sending.file_id_recovery import FileIdRecovery
from telewarm.sending.idempotency import IdempotencyStore
from telewarm.sending.send_context import OnCold, SendLimits
from telewarm.sending.sender import Sender
from telewarm.settings import Settings
from telewarm.storage.disk_cache import BlobCache
from telewarm.storage.object_store import BlobStore
from telewarm.telegram.client import BotApi
from telewarm.telegram.transport import Transport
from telewarm.worker.maintenance import run_periodically
from telewarm.worker.supervisor import WorkerSupervisor

if TYPE_CHECKING:
    from fastapi import FastAPI

    from telewarm.api import AppState

GC_YOUNG_THRESHOLD = 10_000  # new objects before a collection


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """Components of an open Telewarm: bots, library, sender, broadcasts, and the worker of this process (or none)."""

    settings: Settings
    pool: Pool
    bots: BotRegistry
    library: MediaLibrary
    collector: BlobGarbageCollector
    sender: Sender
    idempotency: IdempotencyStore
    broadcasts: BroadcastService
    submissions: SubmissionService
    worker: WorkerSupervisor
    token_cache: ApiTokenCache
    audit: AuditWriter
    backups: BackupService
    checks: HealthChecks
    event_bus: EventBus
    previews: PreviewService
    signer: PreviewUrlSigner
    opening: AsyncExitStack = field(default_factory=AsyncExitStack, repr=False)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, *, worker: bool = True, migrate: bool = False) -> AsyncIterator[Self]:
        """Open the components, including the embedded database, and close them at the end.

        `migrate`: bring an older or empty database to this version's schema. Without it only a new embedded database is
        set up, and any other raises NotMigrated: run `telewarm migrate`.
        """
        logs.silence_libraries()
        async with AsyncExitStack() as stack:
            components = cls(**await _build(settings, stack, migrate=migrate))
            stack.push_async_callback(components.worker.stop)
            if worker:
                await components.worker.start()
            yield components

    @classmethod
    async def start(cls, settings: Settings, *, worker: bool = True, migrate: bool = False) -> Self:
        """Open the components for a framework's start hook; its stop hook has to call `close`."""
        opening = cls.open(settings, worker=worker, migrate=migrate)
        components = await opening.__aenter__()
        components.opening.push_async_exit(opening)
        return components

    async def close(self) -> None:
        """Close what `start` opened. May be repeated."""
        await self.opening.aclose()

    def api(self) -> FastAPI:
        """Return the HTTP API as an ASGI app."""
        from telewarm.api import create_api  # noqa: PLC0415 - FastAPI is for who serves the API

        return create_api(self._services())

    def monitoring_app(self) -> FastAPI:
        """Return an ASGI app of health checks and metrics only."""
        from telewarm.api import create_monitoring_app  # noqa: PLC0415 - FastAPI is for who serves the API

        return create_monitoring_app(self._services())

    def server_token(self) -> ServerToken:
        """Return the API token for `api` and `monitoring_app`.

        It is ADMIN_API_TOKEN, or the token in the data folder, which is created there if needed. Raises SettingsError.
        """
        return server_token(self.settings)

    def _services(self) -> AppState:
        from telewarm.api import AppState  # noqa: PLC0415 - FastAPI is for who serves the API

        return AppState(
            pool=self.pool,
            bots=self.bots,
            library=self.library,
            garbage_collector=self.collector,
            sender=self.sender,
            idempotency=self.idempotency,
            broadcasts=self.broadcasts,
            worker=self.worker,
            health_checks=self.checks,
            previews=self.previews,
            preview_signer=self.signer,
            token_cache=self.token_cache,
            audit_writer=self.audit,
            server_token=self.server_token().secret,
            max_upload_bytes=self.settings.max_upload_bytes,
            events=self.event_bus,
            max_event_streams=self.settings.telewarm_event_listeners,
            max_batch_files=self.settings.telewarm_max_batch_files,
        )


@asynccontextmanager
async def open_bots(settings: Settings, pool: Pool, transport: Transport) -> AsyncIterator[BotRegistry]:
    """Open the bots of this process."""
    cipher = token_cipher(settings)
    make_api = partial(BotApi, transport, root=settings.telegram_api_root)
    sessions = BotSessions(pool=pool, cipher=cipher, make_api=make_api, limits=flood_limits(settings))
    async with sessions.following():
        yield BotRegistry(pool=pool, cipher=cipher, make_api=make_api, sessions=sessions)


async def open_database(settings: Settings, stack: AsyncExitStack, *, migrate: bool) -> tuple[str, Pool]:
    """Open the database, with its schema up to date."""
    given = settings.database_url.get_secret_value() if settings.database_url else None
    url = await stack.enter_async_context(open_database_url(given, settings.telewarm_data, upgrade=migrate))
    pool = await open_pool(url, max_size=settings.telewarm_database_pool, application_name="telewarm")
    stack.push_async_callback(pool.close)
    return url, pool


def tune_garbage_collector() -> None:
    """Tune the garbage collector for a long-running process, once everything is open.

    Existing objects live to the end, so they are frozen, and the rest is collected less often (a third less CPU for a
    message, measured).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_THRESHOLD, 20, 20)


@dataclass(frozen=True, kw_only=True, slots=True)
class Infrastructure:
    """Infrastructure of the services: database, storage, probe, calls to Telegram.

    `heartbeat_pool`: for leases and heartbeats alone, so that nothing delays them.
    """

    database_url: str
    pool: Pool
    heartbeat_pool: Pool
    lease: ProcessLease
    restore_detector: RestoreDetector
    store: BlobStore
    disk_cache: BlobCache
    probe: Probe
    transport: Transport


async def _open_infrastructure(settings: Settings, stack: AsyncExitStack, *, migrate: bool) -> Infrastructure:
    url, pool = await open_database(settings, stack, migrate=migrate)
    await require_known_key(settings, pool)
    store = BlobStore.open(store_config(settings))
    stack.push_async_callback(store.close)
    disk_cache = BlobCache(settings.telewarm_data / "spool", max_bytes=int(settings.telewarm_spool_bytes), store=store)
    stack.callback(disk_cache.close)
    probe = await stack.enter_async_context(Probe.open())
    transport = await stack.enter_async_context(Transport.open(proxy=proxy(settings)))
    heartbeat_pool = await open_pool(url, max_size=HEARTBEAT_POOL_SIZE, application_name="telewarm lease")
    stack.push_async_callback(heartbeat_pool.close)
    lease = await stack.enter_async_context(ProcessLease.open(heartbeat_pool))
    restore_detector = RestoreDetector(pool, settings.telewarm_data, is_sending=partial(is_sending, lease))
    await stack.enter_async_context(restore_detector.running())
    return Infrastructure(
        database_url=url,
        pool=pool,
        heartbeat_pool=heartbeat_pool,
        lease=lease,
        restore_detector=restore_detector,
        store=store,
        disk_cache=disk_cache,
        probe=probe,
        transport=transport,
    )


async def _open_library(settings: Settings, stack: AsyncExitStack, base: Infrastructure) -> MediaLibrary:
    return MediaLibrary(
        pool=base.pool,
        store=base.store,
        disk_cache=base.disk_cache,
        probe=base.probe,
        fetcher=await stack.enter_async_context(Fetcher.open(url_policy(settings))),
        limits=LibraryLimits(max_bytes=settings.max_upload_bytes, local_server=settings.telegram_api_local),
    )


async def _open_sender(
    settings: Settings, stack: AsyncExitStack, base: Infrastructure, bots: BotRegistry, uploader: FileIdUploader
) -> Sender:
    file_ids, chat_status = FileIdCache(), ChatStatusWriter(base.pool)
    following = subscribe(base.pool, {MEDIA_CHANNEL: file_ids.on_notification}, on_lost=file_ids.clear)
    await stack.enter_async_context(following)
    await stack.enter_async_context(chat_status.running())
    return Sender(
        pool=base.pool,
        lease=base.lease,
        uploader=uploader,
        file_ids=file_ids,
        chat_status=chat_status,
        recovery=FileIdRecovery(pool=base.pool, bots=bots, uploader=uploader, file_ids=file_ids),
        limits=SendLimits(on_cold=OnCold(settings.telewarm_on_cold)),
    )


def _health_checks(settings: Settings, base: Infrastructure, worker: WorkerSupervisor) -> HealthChecks:
    return HealthChecks(
        HealthDependencies(
            pool=base.pool,
            store=base.store,
            disk_cache=base.disk_cache,
            worker=worker,
            transport=base.transport,
            api_root=settings.telegram_api_root,
        )
    )


async def _build(settings: Settings, stack: AsyncExitStack, *, migrate: bool) -> dict[str, Any]:
    """Build the components, by field."""
    stack.enter_context(logs.mask_secrets(*secret_values(settings)))
    base = await _open_infrastructure(settings, stack, migrate=migrate)
    pool = base.pool
    bots = await stack.enter_async_context(open_bots(settings, pool, base.transport))
    uploader = FileIdUploader(
        disk_cache=base.disk_cache,
        store=base.store,
        local_server=settings.telegram_api_local,
        urls=settings.telewarm_url_warmup,
    )
    sender = await _open_sender(settings, stack, base, bots, uploader)
    token_cache, audit, event_bus = ApiTokenCache(pool), AuditWriter(pool), EventBus(pool)
    collector = BlobGarbageCollector(pool=pool, store=base.store, disk_cache=base.disk_cache)
    for service in (token_cache, audit, event_bus, collector):
        await stack.enter_async_context(service.running())
    await stack.enter_async_context(run_periodically(pool))
    library = await _open_library(settings, stack, base)
    notify_changed = base.restore_detector.notify_changed
    broadcasts = BroadcastService(pool=pool, bots=bots, sender=sender, library=library, on_change=notify_changed)
    lanes = LaneFactory(
        settings=settings,
        pool=pool,
        heartbeat_pool=base.heartbeat_pool,
        lease=base.lease,
        uploader=uploader,
        sender=sender,
        on_sending=notify_changed,
    )
    worker = lanes.make_supervisor(bots)
    return {
        "settings": settings,
        "pool": pool,
        "bots": bots,
        "library": library,
        "collector": collector,
        "sender": sender,
        "idempotency": IdempotencyStore(pool=pool, lease=base.lease),
        "broadcasts": broadcasts,
        "submissions": SubmissionService(pool=pool, lease=base.lease, bots=bots, broadcasts=broadcasts),
        "token_cache": token_cache,
        "audit": audit,
        "backups": BackupService(url=base.database_url, store=base.store, key=partial(encryption_key, settings)),
        "worker": worker,
        "checks": _health_checks(settings, base, worker),
        "event_bus": event_bus,
        "previews": PreviewService(pool=pool, store=base.store, disk_cache=base.disk_cache, probe=base.probe),
        "signer": PreviewUrlSigner(encryption_key(settings)),
    }
