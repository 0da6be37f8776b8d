"""The OpenAPI document: all responses of every route in one place, with an example of each error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeAlias

from fastapi import FastAPI
from pydantic import BaseModel, Field

from telewarm.api.concurrency_limiter import NEVER_REFUSED
from telewarm.api.permissions import OPEN
from telewarm.api.schemas.types import LARGEST
from telewarm.error_catalog import BY_CODE

Responses: TypeAlias = "dict[int | str, dict[str, Any]]"
Json: TypeAlias = dict[str, Any]
Pair: TypeAlias = tuple[int, str]

CODES = "x-codes"  # of a response, until it is whole
OWN = "application/json"
BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
PROBLEM = {"$ref": "#/components/schemas/Problem"}
ANYBODY: tuple[Pair, ...] = ((431, "HEADERS_TOO_LARGE"), (500, "INTERNAL"))
PLACED: tuple[Pair, ...] = ((503, "OVERLOADED"), (503, "STOPPING"))
CALLERS: tuple[Pair, ...] = (
    (401, "UNAUTHORIZED"),
    (403, "FORBIDDEN"),
    (429, "TOO_MANY_ATTEMPTS"),
    (503, "DATABASE_UNAVAILABLE"),  # without it nobody knows what a named token may do
)
WITH_PARAMETERS: tuple[Pair, ...] = ((422, "BAD_REQUEST"),)
WITH_BODY: tuple[Pair, ...] = ((400, "BAD_REQUEST"), (400, "CUT_OFF"), (408, "TOO_SLOW"), (413, "TOO_LARGE"))
WAITS = frozenset(
    {"MEDIA_NOT_READY", "OVERLOADED", "STOPPING", "TOO_MANY_LISTENERS"}
)  # answered with Retry-After, beside every 429
TAGS = [
    {"name": "bots", "description": "Bots in and out, their tokens and warm-up chats."},
    {"name": "media", "description": "Media in, found, changed, warmed anew, shared and out."},
    {"name": "previews", "description": "A look at media, with a token or a signed URL that expires."},
    {"name": "send", "description": "A message set to one chat, now."},
    {"name": "broadcasts", "description": "A message set to many chats: lists in, steering, results out."},
    {"name": "chats", "description": "The chat ledger: whom a bot could not reach, and groups that moved."},
    {"name": "events", "description": "What happens, live or page by page."},
    {"name": "worker", "description": "This process's worker, and the background work of one bot."},
    {"name": "tokens", "description": "Named API tokens with the roles read, operate and admin."},
    {"name": "audit", "description": "Who changed what."},
    {"name": "health", "description": "Does it live, is it ready, how does it do."},
    {"name": "metrics", "description": "For Prometheus."},
]
AT = "2031-05-01T09:00:00+00:00"
Ok: TypeAlias = Annotated[bool, Field(description="It went well", examples=[True])]
Time: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
HEADERS: Json = {
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
    """An error's answer."""

    ok: Annotated[bool, Field(description="Always false", examples=[False])]
    error: Annotated[str, Field(description="A stable code: see docs/errors.md", examples=["NOT_FOUND"])]
    message: Annotated[str, Field(description="What happened, to what, and the cure", examples=["no such bot"])]
    request_id: Annotated[
        str | None, Field(description="With 5xx: where to look in the log", examples=["9f86d081884c7d65"])
    ] = None


def responses_of(
    model: type[BaseModel], *errors: str | Pair, status: int = 200, words: str, also: Responses | None = None
) -> Json:
    """For a route's decorator: what it answers when it went well, in `words`, and the errors of its own by code, with a
    status where a code has several. `also`: other answers. What any route may answer is added to all of them.

    The answer is held to the model, so that the OpenAPI is true, and goes out faster than without one (measured).
    """
    return {
        "status_code": status,
        "response_model": model,
        "response_model_exclude_unset": True,
        "response_description": words,
        "responses": {**(also or {}), **error_responses(*errors)},
    }


def error_responses(*errors: str | Pair, model: type[BaseModel] = ErrorBody) -> Responses:
    """The errors alone."""
    responses: Responses = {}
    for status, code in _pairs(errors):
        response = responses.setdefault(status, {"model": model, "description": "", CODES: []})
        response[CODES].append(code)
    return responses


def _pairs(errors: Iterable[str | Pair]) -> Iterator[Pair]:
    """Raises LookupError for what the catalogue does not know: at import, so nobody can overlook it."""
    for error in errors:
        status, code = error if isinstance(error, tuple) else (0, error)
        known = BY_CODE[code].statuses
        if isinstance(error, tuple) and status not in known:
            raise LookupError(f"{code} does not come with {status}")
        yield from ((one, code) for one in ((status,) if status else known))


def install_openapi(app: FastAPI) -> None:
    """From now on its OpenAPI is whole."""
    plain = app.openapi

    def openapi() -> Json:
        return app.openapi_schema or complete_schema(plain())

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def complete_schema(spec: Json) -> Json:
    """Changed in place."""
    schemas = spec.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = ErrorBody.model_json_schema()
    spec["components"]["headers"] = HEADERS
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            _complete(operation, path)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _forbid_extra_fields(spec)
    used = {tag for operations in spec["paths"].values() for one in operations.values() for tag in one.get("tags", ())}
    spec["tags"] = [tag for tag in TAGS if tag["name"] in used]
    return spec


def _forbid_extra_fields(node: object) -> None:
    """FastAPI makes floats of bounds: 2**63 - 1 becomes the number after it, which is refused."""
    if isinstance(node, list):
        for one in node:
            _forbid_extra_fields(one)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in BOUNDS and isinstance(value, float) and value.is_integer():
            node[key] = max(-LARGEST, min(LARGEST, int(value)))
        else:
            _forbid_extra_fields(value)


def _complete(operation: Json, path: str) -> None:
    operation["summary"] = _first_sentence(operation.get("description", ""))
    responses: Json = operation["responses"]
    responses.pop("422", None) if CODES not in responses.get("422", {}) else None
    pairs = [(int(status), code) for status, one in responses.items() for code in one.pop(CODES, ())]
    for status, code in sorted({*pairs, *_of_all(operation, path)}):
        _add(responses, status, code)
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-Id"] = {"$ref": "#/components/headers/X-Request-Id"}
    operation["responses"] = dict(sorted(responses.items()))


def _first_sentence(description: str) -> str:
    """FastAPI's own is the name of the function."""
    return description.partition("\n\n")[0].replace("\n", " ").partition(". ")[0].partition(": ")[0].rstrip(".")


def _of_all(operation: Json, path: str) -> Iterator[Pair]:
    yield from ANYBODY
    if path not in NEVER_REFUSED:
        yield from PLACED
    if path not in OPEN:
        yield from CALLERS
    if path.startswith("/api/") or operation.get("parameters") or "requestBody" in operation:
        yield from WITH_PARAMETERS
    if "requestBody" in operation:
        yield from WITH_BODY


def _add(responses: Json, status: int, code: str) -> None:
    """One error more under its status."""
    known = BY_CODE[code]
    response = responses.setdefault(str(status), {"description": ""})
    response["description"] = f"{response['description']}\n- `{code}`: {known.meaning} {known.cure}".lstrip("\n")
    content = response.setdefault("content", {}).setdefault(OWN, {})
    content.setdefault("schema", PROBLEM)
    example: Json = {"ok": False, "error": code, "message": known.meaning}
    if status >= 500 and code != "OVERLOADED":  # of that the log tells but the number
        example["request_id"] = HEADERS["X-Request-Id"]["example"]
    content.setdefault("examples", {})[code] = {"summary": code, "value": example}
    if status == 429 or code in WAITS:
        response.setdefault("headers", {})["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
