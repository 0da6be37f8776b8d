"""Decoder of responses: status and body in, a value or a typed error out, by what the error's text says. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
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


class ErrorKind(StrEnum):
    """Kind of an error."""

    FLOOD = "flood"
    INVALID_TOKEN = "token"  # noqa: S105 - a word, not a secret
    INVALID_FILE_ID = "dead_file"
    MESSAGE_NOT_FOUND = "message_gone"
    BLOCKED = "blocked"  # from here on, values are reasons of ChatUnreachable
    DEACTIVATED = "deactivated"
    KICKED = "kicked"
    NOT_MEMBER = "not_member"
    NOT_FOUND = "not_found"
    NO_RIGHTS = "no_rights"
    TOPIC_CLOSED = "topic_closed"
    RESTRICTED = "restricted"
    PAYMENT_REQUIRED = "payment_required"
    DELETED = "deleted"


# The first pattern found in the lower-cased text, without an album item's prefix, decides.
PATTERNS: tuple[tuple[str, ErrorKind], ...] = (
    (r"too many requests: retry after \d", ErrorKind.FLOOD),
    (r"^(slowmode|flood)_wait_\d", ErrorKind.FLOOD),
    (r"^logged out$|^unauthorized|unallowed token", ErrorKind.INVALID_TOKEN),
    (r"wrong remote file identifier|invalid remote file identifier", ErrorKind.INVALID_FILE_ID),
    (r"wrong file identifier|wrong file_id|invalid file_id|file_id_invalid", ErrorKind.INVALID_FILE_ID),
    (r"can't use file of type|type of file mismatch", ErrorKind.INVALID_FILE_ID),
    (r"file_reference_|media_empty", ErrorKind.INVALID_FILE_ID),
    (r"wrong http url|invalid file http url|can't upload file by url|url must be in utf-8", ErrorKind.INVALID_FILE_ID),
    (r"failed to get http url content|webpage_curl_failed", ErrorKind.INVALID_FILE_ID),
    (r"wrong type of the web page content|webpage_media_empty", ErrorKind.INVALID_FILE_ID),
    (r"wc_convert_url_invalid|external_url_invalid", ErrorKind.INVALID_FILE_ID),
    (r"message to (forward|copy|delete) not found|message_id_invalid", ErrorKind.MESSAGE_NOT_FOUND),
    (r"blocked by the user|user_is_blocked", ErrorKind.BLOCKED),
    (r"user is deactivated|input_user_deactivated", ErrorKind.DEACTIVATED),
    (r"bot was kicked", ErrorKind.KICKED),
    (r"bot is not a member|channel_private", ErrorKind.NOT_MEMBER),
    (r"the group chat was deleted|^chat_deactivated|(group|chat) (is|was) deactivated", ErrorKind.DELETED),
    (r"topic_(closed|deleted)|topic_id_invalid|message thread not found|topic (is )?closed", ErrorKind.TOPIC_CLOSED),
    (r"chat_restricted|user_banned_in_channel|chat_guest_send_forbidden", ErrorKind.RESTRICTED),
    (r"payment_required", ErrorKind.PAYMENT_REQUIRED),
    (r"^(private )?chat not found|peer_id_invalid|can't initiate conversation", ErrorKind.NOT_FOUND),
    (r"no write access|need administrator rights|not enough rights|no rights to (send|post)", ErrorKind.NO_RIGHTS),
    (r"can't send messages to|user restricted receiving", ErrorKind.NO_RIGHTS),
    (
        r"chat_(write|send_[a-z]+)_forbidden|chat_admin_required|voice_messages_forbidden|right_forbidden",
        ErrorKind.NO_RIGHTS,
    ),
    # Any other code of the backend about a chat, such as CHAT_TYPE_NOBODY_KNOWS_YET, is not a fault of the file.
    (r"^(chat|channel|user|topic|forum|peer)_[a-z0-9_]+$", ErrorKind.NO_RIGHTS),
)
COMPILED_PATTERNS = tuple((re.compile(pattern), meaning) for pattern, meaning in PATTERNS)
PREFIX_PATTERN = re.compile(r"^(bad request|forbidden|internal server error): ")
GROUP_ITEM_PATTERN = re.compile(r'^failed to send message #\d+ with the error message "(.*)"$', re.DOTALL)
RETRY_AFTER_PATTERN = re.compile(r"(?:retry after |(?:slowmode|flood)_wait_)(\d{1,9})", re.IGNORECASE)
SLOW_MODE_PATTERN = re.compile(r"\bslowmode_wait_\d", re.IGNORECASE)
KIND_REFUSED_PATTERN = re.compile(
    r"not enough rights to send (?!text)|chat_send_(?!plain)[a-z]+_forbidden|voice_messages_forbidden"
    r"|restricted receiving",
    re.IGNORECASE,
)
TOKEN_IN_PATH_PATTERN = re.compile(r"\b(?:bot)?\d+(?::|%3A)[\w-]{8,}", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorText:
    """Text of an error response. `from_bot_api`: written by the Bot API, not by a proxy in front of it."""

    status: int
    description: str
    from_bot_api: bool = True
    retry_after: float | None = None
    migrate_to: int | None = None


def kind_of(description: str) -> ErrorKind | None:
    """Return the kind of an error; None for an unknown text."""
    words = PREFIX_PATTERN.sub("", description.lower())
    if wrapped := GROUP_ITEM_PATTERN.match(words):
        words = PREFIX_PATTERN.sub("", wrapped[1])
    return next((meaning for pattern, meaning in COMPILED_PATTERNS if pattern.search(words)), None)


def parse_retry_after(description: str) -> float | None:
    """Return the wait that a text asks for: the flood wait of an album comes as a 400 without `parameters`."""
    found = RETRY_AFTER_PATTERN.search(description)
    return float(found[1]) if found else None


def is_group_item_error(description: str) -> bool:
    """Return whether the error is of one item in the middle of an album."""
    return GROUP_ITEM_PATTERN.match(PREFIX_PATTERN.sub("", description.lower())) is not None


def is_slow_mode(description: str) -> bool:
    """Return whether the chat's owner asks for the wait, which says nothing about Telegram's limits."""
    return SLOW_MODE_PATTERN.search(description) is not None


def is_kind_refused(description: str) -> bool:
    """Return whether the chat may accept messages of other kinds."""
    return KIND_REFUSED_PATTERN.search(description) is not None


def redact(description: str) -> str:
    """Mask what looks like a token: a proxy's error text may quote the URL."""
    return TOKEN_IN_PATH_PATTERN.sub("<token>", description)
