"""OpenAPI document: all responses of every route in one place, with an example of each error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeAlias

from fastapi import FastAPI
from pydantic import BaseModel, Field

from telewarm.api.concurrency_limiter import UNLIMITED_PATHS
from telewarm.api.permissions import PUBLIC_PATHS
from telewarm.api.schemas.types import MAX_BIGINT
from telewarm.error_catalog import BY_CODE

Responses: TypeAlias = "dict[int | str, dict[str, Any]]"
JsonObject: TypeAlias = dict[str, Any]
StatusAndCode: TypeAlias = tuple[int, str]

CODES_KEY = "x-codes"  # of a response, until it is whole
JSON_MEDIA_TYPE = "application/json"
BOUND_KEYWORDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
ERROR_BODY_REF = {"$ref": "#/components/schemas/Problem"}
COMMON_ERRORS: tuple[StatusAndCode, ...] = ((431, "HEADERS_TOO_LARGE"), (500, "INTERNAL"))
CONCURRENCY_LIMIT_ERRORS: tuple[StatusAndCode, ...] = ((503, "OVERLOADED"), (503, "STOPPING"))
AUTH_ERRORS: tuple[StatusAndCode, ...] = (
    (401, "UNAUTHORIZED"),
    (403, "FORBIDDEN"),
    (429, "TOO_MANY_ATTEMPTS"),
    (503, "DATABASE_UNAVAILABLE"),  # without it nobody knows what a named token may do
)
PARAMETER_ERRORS: tuple[StatusAndCode, ...] = ((422, "BAD_REQUEST"),)
BODY_ERRORS: tuple[StatusAndCode, ...] = ((400, "BAD_REQUEST"), (400, "CUT_OFF"), (408, "TOO_SLOW"), (413, "TOO_LARGE"))
RETRY_AFTER_CODES = frozenset(
    {"MEDIA_NOT_READY", "OVERLOADED", "STOPPING", "TOO_MANY_LISTENERS"}
)  # answered with Retry-After, beside every 429
TAGS = [
    {"name": "bots", "description": "Bots in and out, their tokens and warm-up chats."},
    {"name": "media", "description": "Media in, found, changed, warmed again, shared and out."},
    {"name": "previews", "description": "A look at media, with a token or a signed URL that expires."},
    {"name": "send", "description": "A message set to one chat, now."},
    {"name": "broadcasts", "description": "A message set to many chats: lists in, steering, results out."},
    {"name": "chats", "description": "Chat status: chats that a bot cannot reach, and migrated groups."},
    {"name": "events", "description": "What happens, live or page by page."},
    {"name": "worker", "description": "This process's worker, and the background work of one bot."},
    {"name": "tokens", "description": "Named API tokens with the roles read, operate and admin."},
    {"name": "audit", "description": "Who changed what."},
    {"name": "health", "description": "Does it live, is it ready, how does it do."},
    {"name": "metrics", "description": "For Prometheus."},
]
BEARER_SCHEME: JsonObject = {
    "type": "http",
    "scheme": "bearer",
    "description": "The server's own token (`telewarm token show`) or a named one",
}
EXAMPLE_TIME = "2031-05-01T09:00:00+00:00"
Ok: TypeAlias = Annotated[bool, Field(description="It went well", examples=[True])]
TimeText: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
RESPONSE_HEADERS: JsonObject = {
    "X-Request-Id": {
        "description": "The id of this request, as in the log: the caller's own, if it sent one, or made here",
        "schema": {"type": "string", "maxLength": 128},
        "example": "9f86d081884c7d65",
    },
    "Retry-After": {
        "description": "Seconds after which to ask again",
        "schema": {"type": "integer", "minimum": 1},
        "example": 4,
    },
}


class ErrorBody(BaseModel):
    """An error response."""

    ok: Annotated[bool, Field(description="Always false", examples=[False])]
    error: Annotated[str, Field(description="A stable code: see docs/errors.md", examples=["NOT_FOUND"])]
    message: Annotated[str, Field(description="What happened, to what, and the cure", examples=["no such bot"])]
    request_id: Annotated[
        str | None, Field(description="With 5xx: where to look in the log", examples=["9f86d081884c7d65"])
    ] = None


def responses_of(
    model: type[BaseModel],
    *errors: str | StatusAndCode,
    status: int = 200,
    description: str,
    other_responses: Responses | None = None,
) -> JsonObject:
    """Return the responses for a route's decorator.

    `description`: of the success. `errors`: the route's own errors by code, with a status where a code has several.
    `other_responses`: further responses. Those of all routes are added automatically. The response is validated against
    the model, so that the OpenAPI document is true, and is encoded faster than without one (measured).
    """
    return {
        "status_code": status,
        "response_model": model,
        "response_model_exclude_unset": True,
        "response_description": description,
        "responses": {**(other_responses or {}), **error_responses(*errors)},
    }


def error_responses(*errors: str | StatusAndCode, model: type[BaseModel] = ErrorBody) -> Responses:
    """Return the responses of errors."""
    responses: Responses = {}
    for status, code in _with_statuses(errors):
        response = responses.setdefault(status, {"model": model, "description": "", CODES_KEY: []})
        response[CODES_KEY].append(code)
    return responses


def _with_statuses(errors: Iterable[str | StatusAndCode]) -> Iterator[StatusAndCode]:
    """Add the statuses.

    Raises LookupError for a code without a catalogue entry, at import, so that nobody can overlook it.
    """
    for error in errors:
        status, code = error if isinstance(error, tuple) else (0, error)
        known = BY_CODE[code].statuses
        if isinstance(error, tuple) and status not in known:
            raise LookupError(f"{code} does not come with {status}")
        yield from ((one, code) for one in ((status,) if status else known))


def install_openapi(app: FastAPI) -> None:
    """Install the OpenAPI override."""
    plain = app.openapi

    def openapi() -> JsonObject:
        """Return the document."""
        return app.openapi_schema or complete_schema(plain())

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def complete_schema(spec: JsonObject) -> JsonObject:
    """Complete the schema in place."""
    schemas = spec.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = ErrorBody.model_json_schema()
    spec["components"]["headers"] = RESPONSE_HEADERS
    spec["components"]["securitySchemes"] = {"HTTPBearer": BEARER_SCHEME}
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            _complete_operation(operation, path)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _restore_integer_bounds(spec)
    used = {tag for operations in spec["paths"].values() for one in operations.values() for tag in one.get("tags", ())}
    spec["tags"] = [tag for tag in TAGS if tag["name"] in used]
    return spec


def _restore_integer_bounds(node: object) -> None:
    """Restore integer bounds, which FastAPI makes floats: 2**63 - 1 becomes the number after it, which is refused."""
    if isinstance(node, list):
        for one in node:
            _restore_integer_bounds(one)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in BOUND_KEYWORDS and isinstance(value, float) and value.is_integer():
            node[key] = max(-MAX_BIGINT, min(MAX_BIGINT, int(value)))
        else:
            _restore_integer_bounds(value)


def _complete_operation(operation: JsonObject, path: str) -> None:
    operation["summary"] = _first_sentence(operation.get("description", ""))
    responses: JsonObject = operation["responses"]
    responses.pop("422", None) if CODES_KEY not in responses.get("422", {}) else None
    pairs = [(int(status), code) for status, one in responses.items() for code in one.pop(CODES_KEY, ())]
    for status, code in sorted({*pairs, *_common_errors(operation, path)}):
        _add_error(responses, status, code)
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-Id"] = {"$ref": "#/components/headers/X-Request-Id"}
    operation["responses"] = dict(sorted(responses.items()))
    if path not in PUBLIC_PATHS:
        operation["security"] = [{"HTTPBearer": []}]


def _first_sentence(description: str) -> str:
    """Return the summary of a route: FastAPI's own is the function's name."""
    return description.partition("\n\n")[0].replace("\n", " ").partition(". ")[0].partition(": ")[0].rstrip(".")


def _common_errors(operation: JsonObject, path: str) -> Iterator[StatusAndCode]:
    yield from COMMON_ERRORS
    if path not in UNLIMITED_PATHS:
        yield from CONCURRENCY_LIMIT_ERRORS
    if path not in PUBLIC_PATHS:
        yield from AUTH_ERRORS
    if path.startswith("/api/") or operation.get("parameters") or "requestBody" in operation:
        yield from PARAMETER_ERRORS
    if "requestBody" in operation:
        yield from BODY_ERRORS


def _add_error(responses: JsonObject, status: int, code: str) -> None:
    """Add an error to the examples of its status."""
    known = BY_CODE[code]
    response = responses.setdefault(str(status), {"description": ""})
    response["description"] = f"{response['description']}\n- `{code}`: {known.meaning} {known.cure}".lstrip("\n")
    content = response.setdefault("content", {}).setdefault(JSON_MEDIA_TYPE, {})
    content.setdefault("schema", ERROR_BODY_REF)
    example: JsonObject = {"ok": False, "error": code, "message": known.meaning}
    if status >= 500 and code != "OVERLOADED":  # of that the log tells but the number
        example["request_id"] = RESPONSE_HEADERS["X-Request-Id"]["example"]
    content.setdefault("examples", {})[code] = {"summary": code, "value": example}
    if status == 429 or code in RETRY_AFTER_CODES:
        response.setdefault("headers", {})["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
