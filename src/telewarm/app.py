"""Builds everything from Settings, opens it and closes it again. Nothing else builds."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from fastapi import FastAPI

from telewarm.api import Services, create_api, create_watch
from telewarm.database.connection import Pool
from telewarm.database.embedded import served
from telewarm.database.leases import Lease
from telewarm.database.migrate import migrate
from telewarm.database.pool import listening, open_pool
from telewarm.database.sealing import Seal
from telewarm.database.warmups import Failed
from telewarm.errors import SettingsError
from telewarm.lanes import Bots, Control, Lane, LaneLimits, Seat, Worker, WorkerLimits
from telewarm.library import Library, LibraryLimits
from telewarm.model import Placed
from telewarm.placements import Placements
from telewarm.probe import Probe
from telewarm.sender import FileIds, OnCold, Sender, SendLimits
from telewarm.sender.cache import CHANNEL as MEDIA_CHANNEL
from telewarm.settings import Settings
from telewarm.store import FolderConfig, S3Config, Spool, Store
from telewarm.telegram import Limit, Limits, Spacing, Transport
from telewarm.warmup import InHand, Retries, WarmUps

log = structlog.get_logger(__name__)

DRAIN = 7.0  # seconds that running lanes have to end what is in flight; a supervisor often waits ten for all of us
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Telewarm:
    """An open Telewarm: the bots, the library, the sender, and the worker of this process, running or not."""

    settings: Settings
    pool: Pool
    bots: Bots
    library: Library
    sender: Sender
    worker: Control

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, *, worker: bool = True) -> AsyncIterator[Telewarm]:
        """Start what is needed, the embedded database included; migrate; at the end close it all cleanly."""
        async with AsyncExitStack() as stack:
            telewarm = await _build(settings, stack)
            stack.push_async_callback(telewarm.worker.stop)
            if worker:
                await telewarm.worker.start()
            yield telewarm

    def api(self) -> FastAPI:
        """The HTTP API of this Telewarm as an ASGI app."""
        return create_api(self._services())

    def watch(self) -> FastAPI:
        """Its health and metrics alone."""
        return create_watch(self._services())

    def _services(self) -> Services:
        token = self.settings.admin_api_token
        return Services(
            pool=self.pool,
            bots=self.bots,
            library=self.library,
            sender=self.sender,
            worker=self.worker,
            token=None if token is None else token.get_secret_value(),
            largest=self.settings.max_upload_bytes,
        )


def refuse_unprotected(settings: Settings, host: str) -> None:
    """Raises SettingsError when the API would stand open to others."""
    if settings.admin_api_token is None and host not in LOOPBACK:
        raise SettingsError(
            f"ADMIN_API_TOKEN is not set, and the API would be open to everybody who reaches {host}: "
            "set ADMIN_API_TOKEN to a long random text, or serve on 127.0.0.1"
        )


def flood_limits(settings: Settings) -> Limits:
    spaced = settings.telewarm_flood_spacing and not settings.telegram_api_local
    return Limits(
        bot=Limit(rate=settings.telewarm_flood_bot_per_second, burst=settings.telewarm_flood_bot_burst),
        private_chat=Limit(
            rate=settings.telewarm_flood_private_per_second, burst=settings.telewarm_flood_private_burst
        ),
        group=Limit(rate=settings.telewarm_flood_group_per_minute / 60, burst=settings.telewarm_flood_group_burst),
        same_size=Spacing() if spaced else None,
    )


def encryption_key(settings: Settings) -> bytes:
    """The key that seals tokens; made once and kept in the data folder when none is set."""
    if settings.encryption_key is not None:
        return bytes.fromhex(settings.encryption_key.get_secret_value())
    path = settings.telewarm_data / "encryption.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # whoever is first wins, and nobody ever reads half a key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return bytes.fromhex(path.read_text(encoding="ascii"))


def store_config(settings: Settings) -> FolderConfig | S3Config:
    remote = settings.object_storage
    if remote is None:
        return FolderConfig(root=settings.store_folder)
    return S3Config(
        bucket=remote.bucket,
        endpoint=remote.endpoint,
        region=remote.region,
        access_key_id=remote.access_key_id,
        secret_access_key=remote.secret_access_key.get_secret_value(),
        public_base_url=remote.public_base_url,
        allow_http=remote.endpoint.startswith("http://"),
        path_style=remote.path_style,
    )


async def _build(settings: Settings, stack: AsyncExitStack) -> Telewarm:
    given = settings.database_url.get_secret_value() if settings.database_url else None
    url = await stack.enter_async_context(served(given, settings.telewarm_data))
    await migrate(url)
    pool = await open_pool(url, max_size=settings.telewarm_database_pool, application_name="telewarm")
    stack.push_async_callback(pool.close)
    store = Store.open(store_config(settings))
    stack.push_async_callback(store.close)
    spool = Spool(settings.telewarm_data / "spool", max_bytes=int(settings.telewarm_spool_bytes), store=store)
    stack.callback(spool.close)
    probe = await stack.enter_async_context(Probe.open())
    transport = await stack.enter_async_context(Transport.open())
    lease = await stack.enter_async_context(Lease.held(pool))
    file_ids = FileIds()
    await stack.enter_async_context(listening(pool, {MEDIA_CHANNEL: file_ids.changed}, on_lost=file_ids.lost))
    bots = Bots(
        pool=pool,
        seal=Seal(encryption_key(settings)),
        transport=transport,
        api_root=settings.telegram_api_root,
        limits=flood_limits(settings),
    )
    await stack.enter_async_context(bots.following())
    placements = Placements(
        spool=spool, store=store, local_server=settings.telegram_api_local, urls=settings.telewarm_url_warmup
    )
    return Telewarm(
        settings=settings,
        pool=pool,
        bots=bots,
        library=Library(
            pool=pool,
            store=store,
            spool=spool,
            probe=probe,
            limits=LibraryLimits(largest=settings.max_upload_bytes, local_server=settings.telegram_api_local),
        ),
        sender=Sender(
            pool=pool,
            lease=lease,
            placements=placements,
            file_ids=file_ids,
            limits=SendLimits(on_cold=OnCold(settings.telewarm_on_cold)),
        ),
        worker=_worker(settings, pool=pool, lease=lease, bots=bots, placements=placements),
    )


def _worker(settings: Settings, *, pool: Pool, lease: Lease, bots: Bots, placements: Placements) -> Control:
    """The worker, which makes each bot's lane: its warm-ups, inside its limits."""
    retries = Retries(
        limit=settings.telewarm_retry_limit,
        base=settings.telewarm_retry_base_ms / 1000,
        longest=settings.telewarm_retry_max_ms / 1000,
        weak_id=settings.media_prewarm_retry_weak_id,
    )
    limits = WorkerLimits(
        interval=settings.media_prewarm_interval_ms / 1000,
        held=settings.media_prewarm_max_queue,
        concurrency=settings.media_prewarm_concurrency,
    )

    def make_lane(seat: Seat) -> Lane[InHand, Placed | Failed]:
        work = WarmUps(pool=pool, lease=lease, live=seat.live, placements=placements, retries=retries)
        return Lane(
            work,
            seat.live.traffic,
            limits=LaneLimits(concurrency=limits.concurrency),
            budget=seat.budget,
            stop=seat.stop,
            crowded=seat.crowded,
            on_closed=seat.live.on_closed,
        )

    return Control(lambda: Worker(pool=pool, live_bots=bots, make_lane=make_lane, limits=limits), limits, drain=DRAIN)
