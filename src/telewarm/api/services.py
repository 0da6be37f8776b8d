"""What the routes work with."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from telewarm.api.answers import ApiError
from telewarm.database.connection import Pool
from telewarm.errors import NotFound
from telewarm.lanes import Bots, Control, LiveBot
from telewarm.library import Library
from telewarm.sender import Sender

SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SMALL = 1 << 20  # bytes of a body that is no upload


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """`token` None: unprotected, which is for loopback only."""

    pool: Pool
    bots: Bots
    library: Library
    sender: Sender
    worker: Control
    token: str | None = field(repr=False)
    largest: int  # bytes of one upload
    patience: float = 60.0  # seconds for which an upload may stand still


def services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


Serving = Annotated[Services, Depends(services)]


async def bot_of_path(slug: str, serving: Serving) -> LiveBot:
    """Raises NotFound."""
    if SLUG.fullmatch(slug) is None:  # the database is not even asked: it takes no NUL in a text
        raise NotFound("no bot can have such a slug; create bots with POST /api/admin/bots")
    return await serving.bots.by_slug(slug)


OfBot = Annotated[LiveBot, Depends(bot_of_path)]


class SmallBody(APIRoute):
    """A route whose body is read into memory as a whole: one that is larger than `SMALL` is refused."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handle(Request(request.scope, _at_most(request.receive, SMALL)))

        return bounded


def _at_most(receive: Receive, most: int) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise ApiError(413, "TOO_LARGE", f"the body has at most {most} bytes here")
        return message

    return bounded
