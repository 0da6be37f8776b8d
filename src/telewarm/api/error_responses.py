"""Error responses: `{"ok": false, "error": CODE, "message": problem and remedy}` with the right status."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from telewarm import errors
from telewarm.cures import Interface
from telewarm.errors import TelewarmError
from telewarm.logs import redact, request_id

log = structlog.get_logger(__name__)

# Most specific first.
STATUS_BY_ERROR: tuple[tuple[type[TelewarmError], int], ...] = (
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.UsageError, 400),
    (errors.MediaRuleViolation, 422),
    (errors.UnreadableMedia, 422),
    (errors.MediaError, 422),
    (errors.DecoderFailed, 500),
    (errors.UrlNotAllowed, 422),
    (errors.FileTooLarge, 413),
    (errors.FetchError, 502),
    (errors.MediaNotReady, 409),
    (errors.ObjectMissing, 404),
    (errors.StoreError, 503),
    (errors.DatabaseError, 503),
    (errors.FloodWait, 429),
    (errors.InvalidBotToken, 422),
    (errors.ChatUnreachable, 403),
    (errors.ChatMigrated, 409),
    (errors.BadRequest, 422),
    (errors.InvalidFileId, 422),
    (errors.MessageNotFound, 404),
    (errors.TelegramError, 502),
)
CODE_BY_STATUS = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "TOO_LARGE"}
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
JSON_BODY_CURE = "send a JSON object, with the header `Content-Type: application/json`"


class HttpError(HTTPException):
    """An error that only the HTTP API has."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.code = code


def error_response(
    status: int, code: str, message: str, /, *, headers: Mapping[str, str] | None = None, **extra: object
) -> JSONResponse:
    """Create an error response. Paths and slugs are quoted in messages: a token put there by mistake is masked."""
    body = {"ok": False, "error": code, "message": redact(message), **extra, **request_id_field(status)}
    return JSONResponse(body, status, headers)


def request_id_field(status: int) -> dict[str, object]:
    """Return the request id for statuses that are our fault, for finding the log entry."""
    return {"request_id": request_id()} if status >= 500 else {}


def status_of(error: TelewarmError) -> int:
    """Return the status of an error."""
    return next((status for kind, status in STATUS_BY_ERROR if isinstance(error, kind)), 500)


def error_body(error: TelewarmError, interface: Interface = Interface.API) -> dict[str, object]:
    """Return the JSON of an error."""
    return {"error": error.code, "message": redact(error.message_for(interface))}


def error_response_for(error: TelewarmError, **extra: object) -> JSONResponse:
    """Create the response for an error."""
    headers = {}
    if isinstance(error, errors.FloodWait | errors.MediaNotReady):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    status = status_of(error)
    if status >= 500:
        log.warning("request_failed", code=error.code, error=error.message)
    return error_response(status, error.code, error.message_for(Interface.API), headers=headers, **extra)


def http_error_response(error: HttpError) -> JSONResponse:
    """Create the response for an HTTP error."""
    return error_response(error.status_code, error.code, error.detail, headers=error.headers)


def register_exception_handlers(app: FastAPI) -> None:
    """Register a response for every error that a route may raise on purpose; the middleware handles the rest."""

    @app.exception_handler(TelewarmError)
    async def _telewarm(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, TelewarmError)  # noqa: S101 - registered for nothing else
        return error_response_for(error)

    @app.exception_handler(HttpError)
    async def _api(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HttpError)  # noqa: S101 - registered for nothing else
        return http_error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
        return _validation_error_response(error.errors())

    @app.exception_handler(StarletteHTTPException)
    async def _http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, StarletteHTTPException)  # noqa: S101 - registered for nothing else
        code = CODE_BY_STATUS.get(error.status_code, "BAD_REQUEST")
        cure = JSON_BODY_CURE if error.status_code == 400 else "the routes are at /docs"
        message = f"{request.method} {request.scope['path']}: {error.detail}; {cure}"
        headers = {"Allow": _allowed_methods(request)} if error.status_code == 405 else error.headers
        return error_response(error.status_code, code, message, headers=headers)


def _allowed_methods(request: Request) -> str:
    """Return the methods of a path. It has a route for each, and the router names only those of the first."""
    scopes = [{**request.scope, "method": method} for method in HTTP_METHODS]
    routes = request.app.routes
    return ", ".join(one["method"] for one in scopes if any(route.matches(one)[0] is Match.FULL for route in routes))


def _validation_error_response(details: Sequence[Mapping[str, Any]]) -> JSONResponse:
    """Create a 400 for malformed JSON, a 422 for wrong JSON or parameters.

    Values are not repeated: they may be secrets.
    """
    if any(one["type"] == "json_invalid" for one in details):
        reason = "; ".join(f"{one['ctx']['error']} at character {one['loc'][-1]}" for one in details)
        return error_response(400, "BAD_REQUEST", f"the body is not JSON ({reason}); {JSON_BODY_CURE}")
    return error_response(422, "BAD_REQUEST", "; ".join(_describe_validation_error(one) for one in details))


def _describe_validation_error(detail: Mapping[str, Any]) -> str:
    """Describe the field and its rule."""
    field = ".".join(str(part) for part in detail["loc"][1:])
    if not field and detail["type"] != "value_error":
        return f"the body does not fit: {JSON_BODY_CURE}"
    if detail["type"] == "missing":
        return f"{field} is missing: give it"
    words = str(detail["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{field}: {words}" if field else words
