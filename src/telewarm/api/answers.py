"""Errors as answers: `{"ok": false, "error": CODE, "message": what and the cure}` with the right status."""

from __future__ import annotations

import math
from collections.abc import Mapping

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from telewarm import errors
from telewarm.errors import TelewarmError

log = structlog.get_logger(__name__)

# Most specific first.
STATUS: tuple[tuple[type[TelewarmError], int], ...] = (
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.UsageError, 400),
    (errors.RuleBroken, 422),
    (errors.UnreadableMedia, 422),
    (errors.MediaError, 422),
    (errors.MediaNotReady, 409),
    (errors.ObjectMissing, 404),
    (errors.StoreError, 503),
    (errors.DatabaseError, 503),
    (errors.FloodWait, 429),
    (errors.TokenRefused, 422),
    (errors.ChatUnreachable, 403),
    (errors.ChatMigrated, 409),
    (errors.BadRequest, 422),
    (errors.DeadFileId, 422),
    (errors.MessageGone, 404),
    (errors.TelegramError, 502),
)


class ApiError(Exception):
    """An answer that only the HTTP API gives."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


def status_of(error: TelewarmError) -> int:
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def error_body(error: TelewarmError) -> dict[str, object]:
    return {"error": error.code, "message": error.message}


def failure(error: TelewarmError, **extra: object) -> JSONResponse:
    headers = {}
    if isinstance(error, errors.FloodWait | errors.MediaNotReady):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return JSONResponse({"ok": False, **error_body(error), **extra}, status_of(error), headers)


def install(app: FastAPI) -> None:
    """Give every error its answer."""

    @app.exception_handler(TelewarmError)
    async def _telewarm(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, TelewarmError)  # noqa: S101 - registered for nothing else
        if status_of(error) >= 500:
            log.warning("[API][ERROR]", code=error.code, error=error.message)
        return failure(error)

    @app.exception_handler(ApiError)
    async def _api(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)  # noqa: S101 - registered for nothing else
        body = {"ok": False, "error": error.code, "message": str(error)}
        return JSONResponse(body, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
        problems = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'] if part != 'body') or 'body'}: {one['msg']}"
            for one in error.errors()
        )
        return JSONResponse({"ok": False, "error": "BAD_REQUEST", "message": problems}, 422)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "BAD_REQUEST")
        message = f"{request.method} {request.url.path}: {error.detail}; the routes are at /docs"
        return JSONResponse({"ok": False, "error": code, "message": message}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> JSONResponse:
        log.error("[API][BUG]", error=type(error).__name__, exc_info=error)
        message = "an error of ours; the log has it"
        return JSONResponse({"ok": False, "error": "INTERNAL", "message": message}, 500)
