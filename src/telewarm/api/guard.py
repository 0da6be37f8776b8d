"""Around every route: who may call, and an answer for whatever a route did not answer."""

from __future__ import annotations

import hmac
import re

import structlog
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telewarm.api.answers import ApiError, api_failure, failure, problem
from telewarm.api.outages import outage

log = structlog.get_logger(__name__)

OPEN = frozenset({"/healthz", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})  # all else is closed
LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
LOCAL_CLIENTS = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
OWN_SITE = frozenset({"same-origin", "none"})  # of Sec-Fetch-Site, which browsers send and pages cannot change


class Guard:
    """Refuses before anything of the body is read. `token` None: only programs of this machine may call."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            self._admit(scope)
            await self._app(scope, receive, watched)
        except Exception as error:
            answer = _answer(error)
            if begun:  # too late for another answer: the broken connection says it
                raise
            await answer(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["path"].removeprefix(scope.get("root_path", "")) in OPEN:
            return
        if self._token is None:
            _require_local(headers, scope.get("client"))
        elif not _is_bearer(headers.getlist("authorization"), self._token):
            raise ApiError(
                401,
                "UNAUTHORIZED",
                "this needs the header `Authorization: Bearer <ADMIN_API_TOKEN>`, with the token the server runs with",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _answer(error: Exception) -> JSONResponse:
    if isinstance(error, ApiError):
        return api_failure(error)
    if isinstance(error, ClientDisconnect):
        log.info("[API][CUT_OFF]")
        return problem(400, "CUT_OFF", "the body ended early; send it again")
    if (ours := outage(error)) is not None:
        log.warning("[API][OUTAGE]", error=type(error).__name__, detail=str(error))
        return failure(ours)
    log.error("[API][BUG]", error=type(error).__name__, exc_info=error)
    return problem(500, "INTERNAL", "an error of ours; the log has it")


def _is_bearer(given: list[str], token: bytes) -> bool:
    """In constant time."""
    if len(given) != 1:
        return False
    scheme, _, credentials = given[0].partition(" ")
    return hmac.compare_digest(credentials.strip().encode(), token) and scheme.lower() == "bearer"


def _require_local(headers: Headers, client: tuple[str, int] | None) -> None:
    """A page in a browser can reach loopback, by its own script or by a name that points here. Neither is us."""
    hosts, origins, sites = (headers.getlist(name) for name in ("host", "origin", "sec-fetch-site"))
    host = hosts[0] if len(hosts) == 1 else ""
    ours = {f"http://{host}".lower(), f"https://{host}".lower()}
    if (
        LOCAL_HOST.fullmatch(host) is None
        or any(origin.lower() not in ours for origin in origins)
        or any(site not in OWN_SITE for site in sites)
        or (client is not None and client[0] not in LOCAL_CLIENTS)
    ):
        raise ApiError(
            403,
            "FORBIDDEN",
            "without ADMIN_API_TOKEN only programs of this machine may call, by its own name; set the token to open the"
            " API to others",
        )
