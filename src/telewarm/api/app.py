"""Application: builds an ASGI app from its state."""

from __future__ import annotations

from fastapi import Depends, FastAPI

import telewarm
from telewarm.api import docs_ui, error_responses
from telewarm.api.body_memory import BodyMemoryBudget
from telewarm.api.concurrency_limiter import AdaptiveConcurrencyLimiter
from telewarm.api.dependencies import AppState
from telewarm.api.middleware.access_log import RequestIdMiddleware
from telewarm.api.middleware.auth import AuthMiddleware
from telewarm.api.middleware.concurrency_limit import ConcurrencyLimitMiddleware
from telewarm.api.openapi import install_openapi
from telewarm.api.routes import (
    audit,
    batch,
    bot_management,
    bots,
    broadcasts,
    chats,
    edits,
    events,
    file_ids,
    health,
    media,
    metrics,
    preview,
    rewarm,
    send,
    tokens,
    warmup_queue,
    worker,
)
from telewarm.api.schemas.bodies import check_query_parameters
from telewarm.api.sse import SseRegistry

DESCRIPTION = "Keeps a Telegram bot's media warm: upload once, send by file_id forever."
COMMON_DEPENDENCIES = [Depends(check_query_parameters)]


def create_api(app_state: AppState) -> FastAPI:
    """Build the whole API."""
    app = _create_app(app_state)
    app.include_router(send.router, prefix="/api/admin")  # its route class checks the query
    for module in (  # routes are matched one after the other: the busiest stand first
        media,
        bots,
        bot_management,
        batch,
        edits,
        file_ids,
        rewarm,
        chats,
        broadcasts,
        events,
        worker,
        warmup_queue,
        tokens,
        audit,
    ):
        app.include_router(module.router, prefix="/api/admin", dependencies=COMMON_DEPENDENCIES)
    app.include_router(preview.signing_router, prefix="/api/admin", dependencies=COMMON_DEPENDENCIES)
    app.include_router(preview.router, prefix="/api", dependencies=COMMON_DEPENDENCIES)
    _add_monitoring(app)
    return app


def create_monitoring_app(app_state: AppState) -> FastAPI:
    """Build an app with health and metrics only, for a worker without the API."""
    app = _create_app(app_state)
    _add_monitoring(app)
    return app


def _add_monitoring(app: FastAPI) -> None:
    app.include_router(docs_ui.router)
    app.include_router(health.probe_router)
    app.include_router(health.router)
    app.include_router(metrics.router)


def _create_app(app_state: AppState) -> FastAPI:
    app = FastAPI(
        title="Telewarm",
        version=telewarm.__version__,
        description=DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = app_state
    app.state.query_parameters = {}
    app.state.token_cache, app.state.audit = app_state.token_cache, app_state.audit_writer
    app.state.streams = SseRegistry(app_state.max_event_streams)
    app.add_middleware(
        AuthMiddleware,
        token=app_state.server_token,
        token_cache=app_state.token_cache,
        audit=app_state.audit_writer,
        signer=app_state.preview_signer,
    )
    app.add_middleware(RequestIdMiddleware)
    app.state.admission = AdaptiveConcurrencyLimiter()
    app.state.bodies = BodyMemoryBudget()
    app.add_middleware(ConcurrencyLimitMiddleware, admission=app.state.admission)
    error_responses.register_exception_handlers(app)
    install_openapi(app)
    return app
