"""Status and body in, a value or a typed error out. Pure: no I/O, no clock."""

from __future__ import annotations

from typing import Generic, TypeVar, assert_never

import msgspec

from telewarm import logs
from telewarm.errors import (
    BadRequest,
    ChatMigrated,
    ChatUnreachable,
    DeadFileId,
    FloodWait,
    MessageGone,
    TelegramError,
    TelegramFault,
    TelegramUnreachable,
    TokenRefused,
)
from telewarm.telegram.refusals import Meaning, Refusal, meaning, redact, wait_in
from telewarm.text import storable

T = TypeVar("T")
RESTART = 5.0  # seconds; what Telegram asks for when it does not say
LONGEST_WAIT = 86_400.0  # seconds; no answer may close a scope for longer
LONGEST_WORDS = 500  # characters of a description that we keep


class Parameters(msgspec.Struct):
    retry_after: float | None = None
    migrate_to_chat_id: int | None = None


class Refused(msgspec.Struct):
    ok: bool = False
    error_code: int | None = None
    description: str = ""
    parameters: Parameters | None = None


class Accepted(msgspec.Struct, Generic[T]):
    ok: bool
    result: T


class Shape(Generic[T]):
    """A result's type, with its decoder made once."""

    def __init__(self, result: type[T]) -> None:
        self._decoder: msgspec.json.Decoder[Accepted[T]] = msgspec.json.Decoder(
            Accepted[result]  # type: ignore[valid-type]  # a type made at run time
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
REFUSED = msgspec.json.Decoder(Refused)


def read(shape: Shape[T], *, status: int, body: bytes, retry_after: str | None, method: str, chat_id: int | None) -> T:
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


def _refusal(status: int, body: bytes, header: str | None) -> Refusal | None:
    """None for a success that cannot be read."""
    try:
        said = REFUSED.decode(body)
    except UNREADABLE:
        said = None
    if said is None or said.ok or not (said.description or said.error_code):
        if status < 300:
            return None
        words = f"HTTP {status}, not a Bot API answer; check TELEGRAM_API_ROOT"
        return Refusal(status=status, description=words, spoken=False, retry_after=_seconds(header))
    parameters = said.parameters or Parameters()
    code = said.error_code if said.error_code is not None and said.error_code >= 400 else max(status, 400)
    return Refusal(
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


def error(refusal: Refusal, *, method: str, chat_id: int | None) -> TelegramError:
    """The typed error. Flood waits come first: they may be dressed as any other status."""
    status, description = refusal.status, refusal.description
    meant = meaning(description)
    if status == 429 or meant is Meaning.FLOOD:
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
        return TokenRefused(method=method, chat_id=chat_id, status=status, description=description)
    if status >= 500 or not (refusal.spoken or status in READER):
        return TelegramFault(method=method, chat_id=chat_id, status=status, description=description)
    return _by_meaning(meant, refusal, method=method, chat_id=chat_id)


def _wait(refusal: Refusal) -> float:
    wait = refusal.retry_after if refusal.retry_after is not None else wait_in(refusal.description)
    return RESTART if wait is None else min(max(wait, 0.0), LONGEST_WAIT)


def _by_meaning(meant: Meaning | None, refusal: Refusal, *, method: str, chat_id: int | None) -> TelegramError:
    status, description = refusal.status, refusal.description
    if meant is None and status == 403:
        meant = Meaning.NO_RIGHTS
    match meant:
        case None | Meaning.FLOOD:
            return BadRequest(method=method, chat_id=chat_id, status=status, description=description)
        case Meaning.TOKEN:
            return TokenRefused(method=method, chat_id=chat_id, status=status, description=description)
        case Meaning.DEAD_FILE:
            return DeadFileId(method=method, chat_id=chat_id, status=status, description=description)
        case Meaning.MESSAGE_GONE:
            return MessageGone(method=method, chat_id=chat_id, status=status, description=description)
        case (
            Meaning.BLOCKED
            | Meaning.DEACTIVATED
            | Meaning.KICKED
            | Meaning.NOT_MEMBER
            | Meaning.NOT_FOUND
            | Meaning.NO_RIGHTS
            | Meaning.TOPIC_CLOSED
            | Meaning.RESTRICTED
            | Meaning.PAYMENT_REQUIRED
            | Meaning.DELETED
        ):
            return ChatUnreachable(
                method=method, chat_id=chat_id, status=status, description=description, reason=meant.value
            )
        case _:
            assert_never(meant)
