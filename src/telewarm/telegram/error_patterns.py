"""Kinds of Telegram's errors, recognised by their texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


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
