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
from telewarm.telegram.error_patterns import ErrorKind, ErrorText, kind_of, redact, wait_in
from telewarm.text import storable

T = TypeVar("T")
RESTART = 5.0  # seconds; what Telegram asks for when it does not say
LONGEST_WAIT = 86_400.0  # seconds; no answer may close a scope for longer
LONGEST_WORDS = 500  # characters of a description that we keep


class ResponseParameters(msgspec.Struct):
    retry_after: float | None = None
    migrate_to_chat_id: int | None = None


class ErrorReply(msgspec.Struct):
    ok: bool = False
    error_code: int | None = None
    description: str = ""
    parameters: ResponseParameters | None = None


class OkReply(msgspec.Struct, Generic[T]):
    ok: bool
    result: T


class ResponseDecoder(Generic[T]):
    """A result's type, with its decoder made once."""

    def __init__(self, result: type[T]) -> None:
        self._decoder: msgspec.json.Decoder[OkReply[T]] = msgspec.json.Decoder(
            OkReply[result]  # type: ignore[valid-type]  # a type made at run time
        )

    def decode(self, body: bytes) -> T | None:
        """None when the body is not a success of this shape."""
        try:
            accepted = self._decoder.decode(body)
        except UNREADABLE:
            return None
        return accepted.result if accepted.ok else None


READER = (400, 413, 415, 431)  # what a Bot API server answers, without a body, to a request that it cannot read
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
REFUSED = msgspec.json.Decoder(ErrorReply)


def read(
    shape: ResponseDecoder[T], *, status: int, body: bytes, retry_after: str | None, method: str, chat_id: int | None
) -> T:
    """The result. `retry_after` is the header, for answers whose body has been lost on the way.

    Raises a TelegramError: the typed refusal, or TelegramUnreachable when a success cannot be understood.
    """
    if status < 300 and (result := shape.decode(body)) is not None:
        return result
    refusal = _refusal(status, body, retry_after)
    if refusal is None:
        raise TelegramUnreachable(
            f"The answer to {method} was not a Bot API answer; check TELEGRAM_API_ROOT",
            method=method,
            chat_id=chat_id,
            effect_possible=True,
        )
    raise error(refusal, method=method, chat_id=chat_id)


def _refusal(status: int, body: bytes, header: str | None) -> ErrorText | None:
    """None for a success that cannot be read."""
    try:
        said = REFUSED.decode(body)
    except UNREADABLE:
        said = None
    if said is None or said.ok or not (said.description or said.error_code):
        if status < 300:
            return None
        words = f"HTTP {status}, not a Bot API answer; check TELEGRAM_API_ROOT"
        return ErrorText(status=status, description=words, spoken=False, retry_after=_seconds(header))
    parameters = said.parameters or ResponseParameters()
    code = said.error_code if said.error_code is not None and said.error_code >= 400 else max(status, 400)
    return ErrorText(
        status=code,
        description=_words(said.description) or f"error {code} without words",
        retry_after=parameters.retry_after if parameters.retry_after is not None else _seconds(header),
        migrate_to=parameters.migrate_to_chat_id,
    )


def _words(description: str) -> str:
    """Without secrets, which may be longer than what is kept, and without what no database can hold."""
    return storable(logs.redact(redact(description[: 4 * LONGEST_WORDS])))[:LONGEST_WORDS]


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isascii() and header.isdigit() and len(header) < 10 else None


def error(refusal: ErrorText, *, method: str, chat_id: int | None) -> TelegramError:
    """The typed error. Flood waits come first: they may be dressed as any other status."""
    status, description = refusal.status, refusal.description
    meant = kind_of(description)
    if status == 429 or meant is ErrorKind.FLOOD:
        return FloodWait(
            method=method, chat_id=chat_id, status=status, description=description, retry_after=_wait(refusal)
        )
    if refusal.migrate_to is not None:
        return ChatMigrated(
            method=method,
            chat_id=chat_id,
            status=status,
            description=description,
            migrate_to_chat_id=refusal.migrate_to,
        )
    if status in (401, 421) or (status == 404 and refusal.spoken and "method" not in description.lower()):
        return InvalidBotToken(method=method, chat_id=chat_id, status=status, description=description)
    if status >= 500 or not (refusal.spoken or status in READER):
        return TelegramServerError(method=method, chat_id=chat_id, status=status, description=description)
    return _by_meaning(meant, refusal, method=method, chat_id=chat_id)


def _wait(refusal: ErrorText) -> float:
    wait = refusal.retry_after if refusal.retry_after is not None else wait_in(refusal.description)
    return RESTART if wait is None else min(max(wait, 0.0), LONGEST_WAIT)


def _by_meaning(meant: ErrorKind | None, refusal: ErrorText, *, method: str, chat_id: int | None) -> TelegramError:
    status, description = refusal.status, refusal.description
    if meant is None and status == 403:
        meant = ErrorKind.NO_RIGHTS
    match meant:
        case None | ErrorKind.FLOOD:
            return BadRequest(method=method, chat_id=chat_id, status=status, description=description)
        case ErrorKind.TOKEN:
            return InvalidBotToken(method=method, chat_id=chat_id, status=status, description=description)
        case ErrorKind.DEAD_FILE:
            return InvalidFileId(method=method, chat_id=chat_id, status=status, description=description)
        case ErrorKind.MESSAGE_GONE:
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
                method=method, chat_id=chat_id, status=status, description=description, reason=meant.value
            )
        case _:
            assert_never(meant)
