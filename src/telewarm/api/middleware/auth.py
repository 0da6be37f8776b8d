"""Authentication of every request, and a response where no route has responded."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

import structlog
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telewarm import clock
from telewarm.api.audit_writer import AuditWriter, sanitize
from telewarm.api.error_responses import HttpError, error_response, error_response_for, http_error_response
from telewarm.api.middleware.access_log import CLIENT_CLOSED_REQUEST
from telewarm.api.permissions import PUBLIC_PATHS, READ_METHODS, Principal, required_role, route_path, route_template
from telewarm.api.request_limits import FailedAuthLimiter, check_headers
from telewarm.api.signed_urls import (
    SIGNED_URL_PRINCIPAL,
    SignedUrlParams,
    bad_signature_error,
    params_from_scope,
    verify,
)
from telewarm.api.token_cache import ApiTokenCache
from telewarm.database.audit import AuditEntry
from telewarm.database.tokens import SECRET_PREFIX, SERVER_TOKEN_NAME, Role
from telewarm.database.transient import as_unavailable_error
from telewarm.errors import TelewarmError
from telewarm.media.preview_urls import PreviewUrlSigner, SignedPreview

__all__ = ["PUBLIC_PATHS", "AuthMiddleware"]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ResponseState:
    """State of a response."""

    status: int = 0  # 0: no answer has begun


class AuthMiddleware:
    """Refuses before the body is read. Callers have the server's token, a named token, or a signed URL.

    What a route needs is in `request.state`: the principal, the signed preview, and a function that returns whether the
    caller is still authorised. Valid credentials are checked first and never throttled, whoever else tries from the
    same address: the throttle delays invalid ones only.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        token_cache: ApiTokenCache | None = None,
        audit: AuditWriter | None = None,
        throttle: FailedAuthLimiter | None = None,
        signer: PreviewUrlSigner | None = None,
    ) -> None:
        self._app = app
        self._server_token = token
        self._token_cache = token_cache
        self._audit_writer = audit
        self._token_limiter = FailedAuthLimiter() if throttle is None else throttle
        self._preview_signer = signer
        self._signature_limiter = FailedAuthLimiter(
            "signatures"
        )  # of its own: any page can make a browser ask for a wrong one

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate a request and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = ResponseState()

        async def watched(message: Message) -> None:
            """Send, and note that the response has begun."""
            if message["type"] == "http.response.start":
                answered.status = message["status"]
            await send(message)

        caller = None
        try:
            caller = await self._authenticate(scope)
            await self._app(scope, receive, watched)
        except Exception as error:
            answer = _response_for(error)
            if answered.status:  # too late for another answer: the broken connection says it
                raise
            answered.status = answer.status_code
            await answer(scope, receive, send)
        finally:
            if caller is not None and scope["method"] not in READ_METHODS:
                self._write_audit_entry(scope, caller, answered.status or CLIENT_CLOSED_REQUEST)

    async def _authenticate(self, scope: Scope) -> Principal | None:
        """Authenticate the request. Returns None for public routes."""
        check_headers(scope["headers"], request_line_bytes=len(scope["path"]) + len(scope.get("query_string", b"")))
        path = route_path(scope)
        if path in PUBLIC_PATHS:
            return None
        if self._preview_signer is not None and (brought := params_from_scope(scope)) is not None:
            ticket = self._verify_signed_url(scope, self._preview_signer, brought)
            scope.setdefault("state", {}).update(caller=SIGNED_URL_PRINCIPAL, ticket=ticket)
            return SIGNED_URL_PRINCIPAL
        headers = Headers(scope=scope)
        caller = await self._authenticate_token(scope, headers)
        role = required_role(scope["method"], path)
        if not caller.role.covers(role):
            raise HttpError(
                403,
                "FORBIDDEN",
                f"this needs a token with the role {role}, and {caller.name} has the role {caller.role}: "
                "use another token, or have an admin make one with POST /api/admin/tokens",
            )
        still = partial(self._is_still_valid, _bearer_token(headers.getlist("authorization")))
        scope.setdefault("state", {}).update(caller=caller, admitted=still)
        return caller

    async def _is_still_valid(self, secret: str) -> bool:
        """Return whether a token is still valid, for long responses. Raises DatabaseUnavailable."""
        return await self._find_principal(secret) is not None

    async def _authenticate_token(self, scope: Scope, headers: Headers) -> Principal:
        given = _bearer_token(headers.getlist("authorization"))
        if given:
            if (caller := await self._find_principal(given)) is not None:
                return caller
            address = _client_address(scope)
            self._token_limiter.check(address, clock.monotonic())
            if self._token_limiter.record_failure(address, clock.monotonic()):
                self._write_audit_entry(scope, None, 401, "(wrong tokens)")
        raise HttpError(
            401,
            "UNAUTHORIZED",
            "this needs the header `Authorization: Bearer <token>`: the server's own (`telewarm token show` prints it "
            "where the server runs), or one that an admin made with POST /api/admin/tokens",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _verify_signed_url(self, scope: Scope, signer: PreviewUrlSigner, params: SignedUrlParams) -> SignedPreview:
        ticket = verify(signer, params)
        if ticket is None:
            address = _client_address(scope)
            self._signature_limiter.check(address, clock.monotonic())
            if self._signature_limiter.record_failure(address, clock.monotonic()):
                self._write_audit_entry(scope, None, 403, "(wrong signatures)")
            raise bad_signature_error()
        return ticket

    async def _find_principal(self, secret: str) -> Principal | None:
        if hmac.compare_digest(secret.encode(), self._server_token.encode()):
            return Principal(name=SERVER_TOKEN_NAME, role=Role.ADMIN)
        if self._token_cache is None or not secret.startswith(SECRET_PREFIX):
            return None
        return await self._token_cache.find_principal(secret)

    def _write_audit_entry(self, scope: Scope, caller: Principal | None, status: int, reason: str = "") -> None:
        """Write an audit entry. `caller` None: an address was throttled, for `reason`."""
        if self._audit_writer is None:
            return
        path, route = route_path(scope), scope.get("route")
        action = reason if caller is None else f"{scope['method']} {route_template(path, route)}"
        self._audit_writer.add(
            AuditEntry(
                at=clock.now(),
                actor=None if caller is None else caller.name,
                role=None if caller is None else caller.role,
                action=action if route is not None else sanitize(action, self._server_token),
                target=sanitize(path + _query_string(scope), self._server_token),
                status=status,
                request_id=scope.get("state", {}).get("request_id"),  # checked when it was read
                address=sanitize(_client_address(scope)) or None,
            )
        )


def _response_for(error: Exception) -> JSONResponse:
    if isinstance(error, HttpError):
        return http_error_response(error)
    if isinstance(error, ClientDisconnect):
        log.info("request_body_aborted")
        return error_response(400, "CUT_OFF", "the body ended early; send it again")
    ours = error if isinstance(error, TelewarmError) else as_unavailable_error(error)
    if ours is not None:
        log.warning("request_failed_in_outage", error=type(error).__name__, detail=str(error))
        return error_response_for(ours)
    log.error("unhandled_exception", error=type(error).__name__, exc_info=error)
    return error_response(500, "INTERNAL", "an error of ours: the log has it, under this `request_id`")


def _bearer_token(values: list[str]) -> str:
    """Return the one bearer token; empty for none, or more than one."""
    if len(values) != 1:
        return ""
    scheme, _, credentials = values[0].partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def _query_string(scope: Scope) -> str:
    """Return the query string (delete and delete for good differ in it), decoded, so that secrets are found."""
    query = unquote(scope.get("query_string", b"").decode("latin-1"), errors="replace")
    return f"?{query}" if query else ""


def _client_address(scope: Scope) -> str:
    """The peer's; behind a proxy that FORWARDED_ALLOW_IPS names, the caller's own."""
    client = scope.get("client")
    return str(client[0]) if client else ""
