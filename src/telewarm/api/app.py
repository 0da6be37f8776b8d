"""The application: a function from what it serves to an ASGI app."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

import telewarm
from telewarm.api import (
    answers,
    audit,
    batch,
    bots,
    broadcasts,
    chats,
    edits,
    events,
    file_ids,
    health,
    media,
    metrics,
    pages,
    preview,
    queue,
    rewarm,
    roster,
    send,
    tokens,
    worker,
)
from telewarm.api.admission import Admission
from telewarm.api.admitted import Admitted
from telewarm.api.bodies import known_query
from telewarm.api.described import describe
from telewarm.api.guard import Guard
from telewarm.api.memory import Bodies
from telewarm.api.services import Services
from telewarm.api.streams import Streams
from telewarm.api.tracing import Traced

DESCRIPTION = "Keeps a Telegram bot's media warm: upload once, send by file_id forever."
BEARER = HTTPBearer(
    auto_error=False, description="The server's own token (`telewarm token show`) or a named one"
)  # for /docs; the guard does it
OF_ALL = [Depends(BEARER), Depends(known_query)]


def create_api(serving: Services) -> FastAPI:
    """All of it."""
    app = create_watch(serving)
    for module in (  # what is asked for most is looked at first
        send,
        media,
        bots,
        roster,
        batch,
        edits,
        file_ids,
        rewarm,
        chats,
        broadcasts,
        events,
        worker,
        queue,
        tokens,
        audit,
    ):
        app.include_router(module.router, prefix="/api/admin", dependencies=OF_ALL)
    app.include_router(preview.signing, prefix="/api/admin", dependencies=OF_ALL)
    app.include_router(preview.router, prefix="/api", dependencies=OF_ALL)
    return app


def create_watch(serving: Services) -> FastAPI:
    """Health and metrics alone, for a worker without the API."""
    app = FastAPI(
        title="Telewarm",
        version=telewarm.__version__,
        description=DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = serving
    app.state.query_parameters = {}
    app.state.keyring, app.state.audit = serving.keyring, serving.audit
    app.state.streams = Streams(serving.listeners)
    app.add_middleware(Guard, token=serving.token, keyring=serving.keyring, audit=serving.audit, signer=serving.signer)
    app.add_middleware(Traced)
    app.state.admission = Admission()
    app.state.bodies = Bodies()
    app.add_middleware(Admitted, admission=app.state.admission)
    answers.install(app)
    describe(app)
    app.include_router(pages.router)
    app.include_router(health.probes)
    app.include_router(health.router, dependencies=[Depends(BEARER)])
    app.include_router(metrics.router, dependencies=[Depends(BEARER)])
    return app
