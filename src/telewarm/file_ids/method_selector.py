"""Which way to a file id to try now. Pure: the time is an argument, in seconds of one monotonic clock.

A way that failed for a reason of the bot's or the server's, not of the item's, is closed for that bot for a while; then
one item tries it, and what that finds opens it to all or closes it for twice as long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from telewarm.errors import (
    BadRequest,
    ChatUnreachable,
    InvalidFileId,
    MessageNotFound,
    TelegramClientError,
    TelegramError,
    TelegramServerError,
    TelegramUnreachable,
)
from telewarm.models import ChatId, ClaimedMedia, Kind, MediaMetadata, UploadMethod

CIRCUIT_OPEN_MIN_SECONDS, CIRCUIT_OPEN_MAX_SECONDS = 60.0, 3600.0  # seconds for which a way is closed

MAX_URL_BYTES = 20_000_000  # Telegram fetches no larger file; its "MB" is nowhere told, so the smaller reading
MAX_URL_PHOTO_BYTES = 5_000_000
MAX_URL_VOICE_BYTES = 1_000_000  # a longer voice note by URL becomes a file
URL_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/webp"})
URL_DOCUMENT_TYPES = frozenset({"application/pdf", "application/zip"})
FILE_ERRORS = re.compile(r"wrong type of the web page|webpage_media_empty|can't upload file by url", re.IGNORECASE)

CALLER_ERRORS = re.compile(r"can't parse|caption|button|markup|repl(y|ied)|thread|topic", re.IGNORECASE)
PROTECTED_CONTENT_ERRORS = re.compile(r"protected content|forwards_restricted", re.IGNORECASE)
RECIPIENT_REASONS = frozenset({"blocked", "deactivated"})  # nothing of the kind keeps a bot from reading a message
ORIGIN_REASONS = frozenset({"kicked", "not_member", "deleted"})  # when the recipient is a person

INCONCLUSIVE_ERRORS = (TelegramUnreachable, TelegramServerError)  # the same way may work in a moment
MAX_INCONCLUSIVE_ATTEMPTS = 2  # failed attempts after which an undecided way gives way to the next


class Route(NamedTuple):
    """What is learned about: a way of one bot (by Telegram's id), for a forward that from one chat."""

    bot: int
    method: UploadMethod
    origin: ChatId | None = None


@dataclass(kw_only=True, slots=True)
class OpenCircuit:
    since: float
    until: float
    pause: float


class MethodSelector:
    """What was learned. Holds only what failed: at most a few routes of each bot."""

    def __init__(self) -> None:
        self._open_circuits: dict[Route, OpenCircuit] = {}

    def __len__(self) -> int:
        """Routes that are closed, or were and have not worked since."""
        return len(self._open_circuits)

    def is_available(self, route: Route, now: float) -> bool:
        closed = self._open_circuits.get(route)
        return closed is None or now >= closed.until

    def try_acquire(self, route: Route, now: float) -> bool:
        """Whether to try it. When its pause is over, one may; the others wait for what that one finds."""
        closed = self._open_circuits.get(route)
        if closed is None:
            return True
        if now < closed.until:
            return False
        closed.until = now + closed.pause
        return True

    def succeeded(self, route: Route) -> None:
        self._open_circuits.pop(route, None)

    def failed(self, route: Route, *, started_at: float, now: float) -> None:
        """A try that began at `started_at` failed. Those under way when the way was closed bring no news."""
        closed = self._open_circuits.get(route)
        if closed is None:
            self._open_circuits[route] = OpenCircuit(
                since=now, until=now + CIRCUIT_OPEN_MIN_SECONDS, pause=CIRCUIT_OPEN_MIN_SECONDS
            )
        elif started_at > closed.since:
            pause = min(CIRCUIT_OPEN_MAX_SECONDS, 2 * closed.pause)
            self._open_circuits[route] = OpenCircuit(since=now, until=now + pause, pause=pause)


def should_fall_back(method: UploadMethod, error: TelegramError, *, attempts: int) -> bool:
    """Whether the next way is tried at once. `attempts`: failed ones that the item has had before."""
    if isinstance(error, INCONCLUSIVE_ERRORS):
        return attempts >= MAX_INCONCLUSIVE_ATTEMPTS
    match method:
        case UploadMethod.FORWARD:
            gone = isinstance(error, MessageNotFound | ChatUnreachable | InvalidFileId | BadRequest)
            return gone or type(error) is TelegramClientError  # an answer without a file
        case UploadMethod.PATH | UploadMethod.URL:
            return isinstance(error, InvalidFileId | BadRequest)
        case UploadMethod.UPLOAD:
            return False
        case _:
            assert_never(method)


def is_item_error(method: UploadMethod, error: TelegramError) -> bool:
    """Whether the way may well work for the bot's other items."""
    match method:
        case UploadMethod.FORWARD:
            return not isinstance(error, ChatUnreachable | BadRequest)
        case UploadMethod.PATH:
            return isinstance(error, BadRequest)
        case UploadMethod.URL:
            return isinstance(error, BadRequest) or FILE_ERRORS.search(str(error)) is not None
        case UploadMethod.UPLOAD:
            return True
        case _:
            assert_never(method)


def cannot_copy(error: TelegramClientError) -> bool:
    """Whether sending the bytes may work where the copy did not.

    A chat that is not found or not accessible may be the recipient's or the warm-up chat: Telegram names neither.
    """
    if isinstance(error, ChatUnreachable):
        return error.reason not in RECIPIENT_REASONS
    if isinstance(error, BadRequest):
        return CALLER_ERRORS.search(error.description) is None
    return isinstance(error, MessageNotFound | InvalidFileId)


def is_origin_error(error: TelegramClientError, *, to: ChatId) -> bool:
    """Whether no other message can be copied out of that chat either, whoever is to get it."""
    if isinstance(error, ChatUnreachable):
        return to > 0 and error.reason in ORIGIN_REASONS
    return isinstance(error, BadRequest) and PROTECTED_CONTENT_ERRORS.search(error.description) is not None


def fits_url(kind: Kind, facts: MediaMetadata, *, name: str | None) -> bool:
    """Whether Telegram can fetch this file and nothing is lost by it.

    By URL it ignores our thumbnail, sides, duration, title and streaming flag, and shows the URL's own file name.
    """
    match kind:
        case Kind.PHOTO:
            return facts.mime in URL_IMAGE_TYPES and facts.bytes <= MAX_URL_PHOTO_BYTES
        case Kind.DOCUMENT:
            return facts.mime in URL_DOCUMENT_TYPES and facts.bytes <= MAX_URL_BYTES and name is None
        case Kind.VOICE:
            return facts.mime == "audio/ogg" and facts.bytes <= MAX_URL_VOICE_BYTES
        case Kind.STICKER:
            return facts.mime == "image/webp" and facts.bytes <= MAX_URL_BYTES
        case Kind.VIDEO | Kind.AUDIO | Kind.ANIMATION | Kind.VIDEO_NOTE:
            return False
        case _:
            assert_never(kind)


def routes(item: ClaimedMedia, *, bot: int, paths: bool, urls: bool) -> list[Route]:
    """The ways that there are for an item, cheapest first; the last is an upload."""
    found = []
    if item.origin is not None:
        found.append(Route(bot, UploadMethod.FORWARD, item.origin.chat_id))
    if paths:
        found.append(Route(bot, UploadMethod.PATH))
    if urls and fits_url(item.kind, item.blob.facts, name=item.name):
        found.append(Route(bot, UploadMethod.URL))
    return [*found, Route(bot, UploadMethod.UPLOAD)]
