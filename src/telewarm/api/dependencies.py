"""Dependencies of the routes: the application's state, a bot by its slug, small bodies."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends, Path, Request, Response
from fastapi.routing import APIRoute

from telewarm.api.audit_writer import AuditWriter
from telewarm.api.body_memory import body_memory_of
from telewarm.api.health_checks import HealthChecks
from telewarm.api.request_limits import read_limited_body
from telewarm.api.schemas.bodies import check_query_parameters
from telewarm.api.token_cache import ApiTokenCache
from telewarm.bots.chat_names import SLUG_PATTERN
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

SLUG_SCHEMA = {"pattern": f"^{SLUG_PATTERN.pattern}$"}  # of a JSON Schema
MAX_BODY_BYTES = 1 << 20  # bytes of a body that is no upload


@dataclass(frozen=True, kw_only=True, slots=True)
class AppState:
    """State of the application."""

    pool: Pool
    bots: BotRegistry
    library: MediaLibrary
    garbage_collector: BlobGarbageCollector
    sender: Sender
    idempotency: IdempotencyStore
    broadcasts: BroadcastService
    worker: WorkerSupervisor
    health_checks: HealthChecks
    previews: PreviewService
    preview_signer: PreviewUrlSigner
    server_token: str = field(repr=False)  # the server's own
    max_upload_bytes: int  # bytes of one upload
    events: EventBus
    max_batch_files: int = 100  # of one batch
    token_cache: ApiTokenCache | None = None
    audit_writer: AuditWriter | None = None
    body_stall_seconds: float = 60.0  # seconds for which an upload may stand still
    max_event_streams: int = 1000  # event streams at once


def state_of(request: Request) -> AppState:
    """Return the state of the app that a request came to."""
    return cast(AppState, request.app.state.services)


async def get_app_state(request: Request) -> AppState:
    """Return the state. A coroutine, because FastAPI would run a function in a thread."""
    return state_of(request)


StateDep = Annotated[AppState, Depends(get_app_state)]


SlugParam = Annotated[str, Path(description="Your name for the bot", examples=["shop"])]


def check_slug(slug: str) -> str:
    """Check a slug. Raises NotFound."""
    if SLUG_PATTERN.fullmatch(slug) is None:  # the database is not even asked: it takes no NUL in a text
        raise NoSuchBot(slug)
    return slug


async def resolve_bot(slug: SlugParam, app_state: StateDep) -> BotSession:
    """Return the session of a bot. Raises NotFound."""
    return await app_state.bots.by_slug(check_slug(slug))


BotDep = Annotated[BotSession, Depends(resolve_bot)]


class LimitedBodyRoute(APIRoute):
    """Route whose body is read into memory: too large, slow or deeply nested ones are refused.

    Unknown query parameters are refused too, without the cost of a dependency.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            """Handle a request with limits."""
            await check_query_parameters(request)
            with body_memory_of(request).for_request() as held:
                return await handle(await read_limited_body(request, MAX_BODY_BYTES, held.reserve))

        return bounded
