"""The application: a function from what it serves to an ASGI app."""

from __future__ import annotations

from fastapi import Depends, FastAPI

import telewarm
from telewarm.api import answers, bots, media, send
from telewarm.api.services import Services, require_token

DESCRIPTION = "Keeps a Telegram bot's media warm: upload once, send by file id for ever."


def create_api(serving: Services) -> FastAPI:
    app = FastAPI(title="Telewarm", version=telewarm.__version__, description=DESCRIPTION)
    app.state.services = serving
    answers.install(app)
    for router in (bots.router, media.router, send.router):
        app.include_router(router, prefix="/api/admin", dependencies=[Depends(require_token)])

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, bool]:
        """This process answers."""
        return {"ok": True}

    return app
