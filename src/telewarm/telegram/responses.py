"""Decoder of responses: status and body in, a value or a typed error out. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar, assert_never

import msgspec

from telewarm import logs
from telewarm.errors import (
    BadRequest,
    ChatMigrated,
    ChatUnreachable,
    FloodWait,
    InvalidBotToken,
    InvalidFileId,
    MessageNotFound,
    TelegramError,
    TelegramServerError,
    TelegramUnreachable,
)
from telewarm.telegram.error_patterns import ErrorKind, ErrorText, kind_of, parse_retry_after, redact
from telewarm.text import storable

T = TypeVar("T")
DEFAULT_RETRY_AFTER_SECONDS = 5.0  # for a flood wait without a time
MAX_RETRY_AFTER_SECONDS = 86_400.0  # maximum of a wait, whatever a response says
MAX_DESCRIPTION_CHARACTERS = 500  # maximum of a stored description


class ResponseParameters(msgspec.Struct):
    """The `parameters` of an error response."""

    retry_after: float | None = None
    migrate_to_chat_id: int | None = None


class ErrorReply(msgspec.Struct):
    """An error response."""

    ok: bool = False
    error_code: int | None = None
    description: str = ""
    parameters: ResponseParameters | None = None


class OkReply(msgspec.Struct, Generic[T]):
    """A success response."""

    ok: bool
    result: T


class ResponseDecoder(Generic[T]):
    """Decoder for one type of result, built once."""

    def __init__(self, result: type[T]) -> None:
        self._decoder: msgspec.json.Decoder[OkReply[T]] = msgspec.json.Decoder(
            OkReply[result]  # type: ignore[valid-type]  # a type made at run time
        )

    def decode(self, body: bytes) -> T | None:
        """Return the result; None when the body is not a success of this shape."""
        try:
            accepted = self._decoder.decode(body)
        except DECODE_ERRORS:
            return None
        return accepted.result if accepted.ok else None


UNREADABLE_REQUEST_STATUSES = (
    400,
    413,
    415,
    431,
)  # responses of a Bot API server, without a body, to an unreadable request
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
ERROR_DECODER = msgspec.json.Decoder(ErrorReply)


def decode_response(
    decoder: ResponseDecoder[T], *, status: int, body: bytes, retry_after: str | None, method: str, chat_id: int | None
) -> T:
    """Return the result. `retry_after`: the header, for responses whose body was lost on the way.

    Raises TelegramError: the typed error, or TelegramUnreachable for an unreadable success.
    """
    if status < 300 and (result := decoder.decode(body)) is not None:
        return result
    refusal = _parse_error(status, body, retry_after)
    if refusal is None:
        raise TelegramUnreachable(
            f"The answer to {method} was not a Bot API answer; check TELEGRAM_API_ROOT",
            method=method,
            chat_id=chat_id,
            effect_possible=True,
        )
    raise typed_error(refusal, method=method, chat_id=chat_id)


def _parse_error(status: int, body: bytes, header: str | None) -> ErrorText | None:
    """Return the error; None for an unreadable success."""
    try:
        said = ERROR_DECODER.decode(body)
    except DECODE_ERRORS:
        said = None
    if said is None or said.ok or not (said.description or said.error_code):
        if status < 300:
            return None
        words = f"HTTP {status}, not a Bot API answer; check TELEGRAM_API_ROOT"
        return ErrorText(
            status=status, description=words, from_bot_api=False, retry_after=_parse_retry_after_header(header)
        )
    parameters = said.parameters or ResponseParameters()
    code = said.error_code if said.error_code is not None and said.error_code >= 400 else max(status, 400)
    return ErrorText(
        status=code,
        description=_clean_description(said.description) or f"error {code} without words",
        retry_after=parameters.retry_after if parameters.retry_after is not None else _parse_retry_after_header(header),
        migrate_to=parameters.migrate_to_chat_id,
    )


def _clean_description(description: str) -> str:
    """Shorten a description, without secrets and without what no database stores."""
    return storable(logs.redact(redact(description[: 4 * MAX_DESCRIPTION_CHARACTERS])))[:MAX_DESCRIPTION_CHARACTERS]


def _parse_retry_after_header(header: str | None) -> float | None:
    return float(header) if header is not None and header.isascii() and header.isdigit() and len(header) < 10 else None


def typed_error(error_text: ErrorText, *, method: str, chat_id: int | None) -> TelegramError:
    """Return the typed error. Flood waits come first: they may have any status."""
    status, description = error_text.status, error_text.description
    meant = kind_of(description)
    if status == 429 or meant is ErrorKind.FLOOD:
        return FloodWait(
            method=method, chat_id=chat_id, status=status, description=description, retry_after=_retry_after(error_text)
        )
    if error_text.migrate_to is not None:
        return ChatMigrated(
            method=method,
            chat_id=chat_id,
            status=status,
            description=description,
            migrate_to_chat_id=error_text.migrate_to,
        )
    if status in (401, 421) or (status == 404 and error_text.from_bot_api and "method" not in description.lower()):
        return InvalidBotToken(method=method, chat_id=chat_id, status=status, description=description)
    if status >= 500 or not (error_text.from_bot_api or status in UNREADABLE_REQUEST_STATUSES):
        return TelegramServerError(method=method, chat_id=chat_id, status=status, description=description)
    return _error_of_kind(meant, error_text, method=method, chat_id=chat_id)


def _retry_after(error_text: ErrorText) -> float:
    wait = error_text.retry_after if error_text.retry_after is not None else parse_retry_after(error_text.description)
    return DEFAULT_RETRY_AFTER_SECONDS if wait is None else min(max(wait, 0.0), MAX_RETRY_AFTER_SECONDS)


def _error_of_kind(kind: ErrorKind | None, error_text: ErrorText, *, method: str, chat_id: int | None) -> TelegramError:
    status, description = error_text.status, error_text.description
    if kind is None and status == 403:
        kind = ErrorKind.NO_RIGHTS
    match kind:
        case None | ErrorKind.FLOOD:
            return BadRequest(method=method, chat_id=chat_id, status=status, description=description)
        case ErrorKind.INVALID_TOKEN:
            return InvalidBotToken(method=method, chat_id=chat_id, status=status, description=description)
        case ErrorKind.INVALID_FILE_ID:
            return InvalidFileId(method=method, chat_id=chat_id, status=status, description=description)
        case ErrorKind.MESSAGE_NOT_FOUND:
            return MessageNotFound(method=method, chat_id=chat_id, status=status, description=description)
        case (
            ErrorKind.BLOCKED
            | ErrorKind.DEACTIVATED
            | ErrorKind.KICKED
            | ErrorKind.NOT_MEMBER
            | ErrorKind.NOT_FOUND
            | ErrorKind.NO_RIGHTS
            | ErrorKind.TOPIC_CLOSED
            | ErrorKind.RESTRICTED
            | ErrorKind.PAYMENT_REQUIRED
            | ErrorKind.DELETED
        ):
            return ChatUnreachable(
                method=method, chat_id=chat_id, status=status, description=description, reason=kind.value
            )
        case _:
            assert_never(kind)
