"""What the routes work with, and who may call them."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Annotated, cast
from urllib.parse import urlsplit

from fastapi import Depends, Request

from telewarm.api.answers import ApiError
from telewarm.database.connection import Pool
from telewarm.lanes import Bots
from telewarm.library import Library
from telewarm.sender import Sender

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """`token` None: unprotected, which is for loopback only."""

    pool: Pool
    bots: Bots
    library: Library
    sender: Sender
    token: str | None = field(repr=False)
    largest: int  # bytes of one upload


def services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


Serving = Annotated[Services, Depends(services)]


def require_token(request: Request, serving: Serving) -> None:
    """Bearer token in constant time. Without a token: only from this machine, and not from a web page elsewhere."""
    if serving.token is None:
        _require_local(request)
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), serving.token.encode()):
        raise ApiError(
            401,
            "UNAUTHORIZED",
            "this needs the header `Authorization: Bearer <ADMIN_API_TOKEN>` with the token that the server runs with",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _require_local(request: Request) -> None:
    """A page in a browser can reach loopback, by its own script or by a name that points here. Neither is us."""
    host = request.url.hostname
    origin = request.headers.get("origin")
    if host not in LOOPBACK or (origin is not None and urlsplit(origin).hostname not in LOOPBACK):
        raise ApiError(
            403, "FORBIDDEN", "without ADMIN_API_TOKEN only this machine may call; set the token to open the API"
        )
