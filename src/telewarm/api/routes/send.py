"""Route: send a message now."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import msgspec
import structlog
from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field

from telewarm.api.dependencies import LimitedBodyRoute, SlugParam, resolve_bot, state_of
from telewarm.api.error_responses import STATUS_BY_ERROR, request_id_field
from telewarm.api.openapi import ErrorBody, Ok, error_responses
from telewarm.api.schemas.messages import MessageIn, message_of
from telewarm.api.schemas.types import ChatOrName, RejectBool
from telewarm.bots.chat_names import resolve_chat
from telewarm.errors import TelewarmError, UsageError
from telewarm.sending.idempotency import MAX_KEY_CHARACTERS, Results, describe
from telewarm.sending.send_context import OnCold

log = structlog.get_logger(__name__)
router = APIRouter(tags=["send"], route_class=LimitedBodyRoute)

IDEMPOTENCY_KEY_SCHEMA: dict[str, Any] = {"minLength": 1, "maxLength": MAX_KEY_CHARACTERS}
DEFAULT_KEY_WAIT_SECONDS = 60.0  # seconds that a call waits for an earlier one with the same key, when it does not say


class SendRequest(MessageIn):
    """A message set for one chat."""

    aliases: ClassVar[Mapping[str, str]] = {**MessageIn.aliases, "chat": "chat_id"}

    chat_id: Annotated[
        ChatOrName,
        Field(
            description="The recipient; a group is below zero. Or the `@name` of a public channel or group",
            examples=[5_000_001],
        ),
    ]
    on_cold: Annotated[
        OnCold | None,
        Field(
            description="For media without a file id yet: send the bytes now (`upload`, the default), `wait` for the "
            "warm-up, or `fail` with MEDIA_NOT_READY",
            examples=["upload"],
        ),
    ] = None
    patience_ms: Annotated[
        int | None,
        Field(
            ge=0,
            le=600_000,
            description="Wait at most so many milliseconds for Telegram's limits; what would have to wait longer is a "
            "429 at once. Default: 60 s",
            examples=[2000],
        ),
        RejectBool,
    ] = None
    idempotency_key: Annotated[
        str | None,
        Field(
            description="As the header `Idempotency-Key`: 1 to 200 characters. A call repeated within a day returns "
            "the first one's result and sends nothing",
            examples=["order-4711-shipped"],
            json_schema_extra=IDEMPOTENCY_KEY_SCHEMA,
        ),
    ] = None


class MessageResultOut(BaseModel):
    """One message of the set."""

    message_id: Annotated[int | None, Field(description="null when it did not go", examples=[4711])]
    kind: Annotated[
        str | None,
        Field(description="`text`, or what the media item went as; null when it did not", examples=["photo"]),
    ]
    cache_hit: Annotated[bool, Field(description="It went by a file id that was at hand", examples=[True])]
    lat_ms: Annotated[float, Field(description="Milliseconds that it took, waits included", examples=[31.5])]
    media_id: Annotated[int | None, Field(description="Not for text", examples=[17])] = None
    moved_to: Annotated[int | None, Field(description="The supergroup that it is now", examples=[-100123])] = None
    error: Annotated[str | None, Field(description="Why it did not go", examples=["CHAT_UNREACHABLE"])] = None
    message: Annotated[str | None, Field(description="What happened, and the cure", examples=["It is gone"])] = None
    retry_after: Annotated[float | None, Field(description="Seconds after which to try again", examples=[3.5])] = None
    maybe_sent: Annotated[
        bool | None, Field(description="Nothing proves that it did not go: it may be in the chat", examples=[True])
    ] = None


class SendResponse(BaseModel):
    """At least one message went."""

    ok: Ok
    results: Annotated[list[MessageResultOut], Field(description="In the order in which they went")]
    moved_to: Annotated[int | None, Field(description="Use this chat id from now on", examples=[-100123])]
    replayed: Annotated[bool, Field(description="The result of an earlier call with the same key", examples=[False])]


class SendFailure(ErrorBody):
    """Nothing went: the first message's error, and all results when it came to them."""

    results: Annotated[list[MessageResultOut] | None, Field(description="In their order")] = None
    moved_to: Annotated[int | None, Field(description="Use this chat id from now on", examples=[-100123])] = None
    replayed: Annotated[bool | None, Field(description="As when it went", examples=[False])] = None


# The answer is written by `send_response`, not by FastAPI: this is the hot path.
SEND_RESPONSES: dict[str, Any] = {
    "response_model": None,
    "responses": {
        200: {"model": SendResponse, "description": "Sent, with an `error` in the results that did not go"},
        **error_responses(
            (400, "BAD_REQUEST"),
            "NOT_FOUND",
            "CONFLICT",
            "BAD_MEDIA",
            "MEDIA_NOT_READY",
            "OBJECT_MISSING",
            "OBJECT_CORRUPT",
            "STORE_UNAVAILABLE",
            "FLOOD_WAIT",
            "CHAT_UNREACHABLE",
            "CHAT_MIGRATED",
            "TOKEN_REFUSED",
            "DEAD_FILE_ID",
            "MESSAGE_GONE",
            "TELEGRAM_BAD_REQUEST",
            "TELEGRAM_REFUSED",
            "TELEGRAM_FAULT",
            "TELEGRAM_UNREACHABLE",
            model=SendFailure,
        ),
    },
}

IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        description="A call repeated with the same key returns the first one's result",
        examples=["order-4711"],
        json_schema_extra=IDEMPOTENCY_KEY_SCHEMA,
    ),
]


@router.post("/bots/{slug}/send", **SEND_RESPONSES)
async def send(
    slug: SlugParam, body: SendRequest, request: Request, idempotency_key: IdempotencyKeyHeader = None
) -> Response:
    """Send a message set to one chat: audio, video, photo, the rest, then text.

    200 when at least one message went, with an `error` in the results that did not; else the status of the first error.
    """
    serving = state_of(request)  # not by dependencies, each of which costs as much as the check of the body
    session = await resolve_bot(slug, serving)
    message = message_of(body)
    key = body.idempotency_key if idempotency_key is None else idempotency_key
    if key != body.idempotency_key is not None:
        raise UsageError("the header Idempotency-Key and the field idempotency_key differ: give one of them")

    async def sending() -> Results:
        """Send the message set."""
        patience = None if body.patience_ms is None else body.patience_ms / 1000
        asked = await serving.library.as_files(session.bot, message)
        chat_id = await resolve_chat(session.api, session.chat_names, body.chat_id)
        sent = await serving.sender.send(session, chat_id, asked, on_cold=body.on_cold, patience=patience)
        return [describe(result) for result in sent]

    if key is None:
        return send_response(await sending(), replayed=False)
    fingerprint = msgspec.json.encode((body.chat_id, message), order="sorted")
    patience = DEFAULT_KEY_WAIT_SECONDS if body.patience_ms is None else body.patience_ms / 1000
    results, replayed = await serving.idempotency.run(session.bot.id, key, fingerprint, sending, patience=patience)
    return send_response(results, replayed=replayed)


def send_response(results: Results, *, replayed: bool) -> Response:
    """Create the response."""
    moved_to = next((one["moved_to"] for one in results if "moved_to" in one), None)
    shown = {"results": results, "moved_to": moved_to, "replayed": replayed}
    if any("error" not in one for one in results):
        return _json_response({"ok": True, **shown}, 200)
    first = results[0]
    code = str(first["error"])
    status = STATUS_BY_CODE.get(code, 500)
    if status >= 500:
        log.warning("request_failed", code=code, error=first["message"])
    answered = _json_response(
        {"ok": False, "error": code, "message": first["message"], **shown, **request_id_field(status)}, status
    )
    retry_after = first.get("retry_after")
    if isinstance(retry_after, int | float):
        answered.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return answered


def _json_response(body: dict[str, object], status: int) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _with_subclasses(kind: type[TelewarmError]) -> Iterator[type[TelewarmError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _with_subclasses(child)


# By code, for results that are read from the database.
STATUS_BY_CODE = {
    kind.code: next((status for parent, status in STATUS_BY_ERROR if issubclass(kind, parent)), 500)
    for kind in _with_subclasses(TelewarmError)
}
