"""Dependencies of the routes: the application's state, a bot by its slug, small bodies."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends, Path, Request, Response
from fastapi.routing import APIRoute

from telewarm.api.audit_writer import AuditWriter
from telewarm.api.body_memory import bodies_of
from telewarm.api.health_checks import HealthChecks
from telewarm.api.request_limits import small
from telewarm.api.token_cache import ApiTokenCache
from telewarm.bots.chat_names import SLUG
from telewarm.bots.registry import BotRegistry
from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.service import BroadcastService
from telewarm.database.connection import Pool
from telewarm.errors import NoSuchBot
from telewarm.events.bus import EventBus
from telewarm.media.garbage_collector import BlobGarbageCollector
from telewarm.media.library import MediaLibrary
from telewarm.media.preview_urls import PreviewUrlSigner
from telewarm.media.previews import PreviewService
from telewarm.sending.idempotency import IdempotencyStore
from telewarm.sending.sender import Sender
from telewarm.worker.supervisor import WorkerSupervisor

AS_SLUG = {"pattern": f"^{SLUG.pattern}$"}  # of a JSON Schema
SMALL = 1 << 20  # bytes of a body that is no upload


@dataclass(frozen=True, kw_only=True, slots=True)
class AppState:
    pool: Pool
    bots: BotRegistry
    library: MediaLibrary
    collector: BlobGarbageCollector
    sender: Sender
    once: IdempotencyStore
    broadcasts: BroadcastService
    worker: WorkerSupervisor
    checks: HealthChecks
    previews: PreviewService
    signer: PreviewUrlSigner
    token: str = field(repr=False)  # the server's own
    largest: int  # bytes of one upload
    events: EventBus
    most_files: int = 100  # of one batch
    keyring: ApiTokenCache | None = None
    audit: AuditWriter | None = None
    patience: float = 60.0  # seconds for which an upload may stand still
    listeners: int = 1000  # event streams at once


async def services(request: Request) -> AppState:
    """A coroutine, or FastAPI would call it in a thread."""
    return cast(AppState, request.app.state.services)


StateDep = Annotated[AppState, Depends(services)]


OfPath = Annotated[str, Path(description="Your name for the bot", examples=["shop"])]


def slug_of_path(slug: str) -> str:
    """Raises NotFound."""
    if SLUG.fullmatch(slug) is None:  # the database is not even asked: it takes no NUL in a text
        raise NoSuchBot(slug)
    return slug


async def bot_of_path(slug: OfPath, serving: StateDep) -> BotSession:
    """Raises NotFound."""
    return await serving.bots.by_slug(slug_of_path(slug))


BotDep = Annotated[BotSession, Depends(bot_of_path)]


class LimitedBodyRoute(APIRoute):
    """A route whose body is read into memory as a whole: one that is large, slow or nested deeply is refused."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            with bodies_of(request).share() as held:
                return await handle(await small(request, SMALL, held.take))

        return bounded
