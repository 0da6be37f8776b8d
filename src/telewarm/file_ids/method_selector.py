"""Selection of the method to obtain a file id. Pure: the time is an argument, of one monotonic clock.

Each method has a circuit breaker for each bot. A method that failed because of the bot or the server, not of the item,
is unavailable for a while; then one item tries it, and the result closes the circuit or keeps it open for twice as
long.
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

CIRCUIT_OPEN_MIN_SECONDS, CIRCUIT_OPEN_MAX_SECONDS = 60.0, 3600.0  # seconds for which a circuit stays open

MAX_URL_BYTES = 20_000_000  # Telegram's limit is "20 MB", which may be decimal
MAX_URL_PHOTO_BYTES = 5_000_000
MAX_URL_VOICE_BYTES = 1_000_000  # a larger voice note by URL becomes a document
URL_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/webp"})
URL_DOCUMENT_TYPES = frozenset({"application/pdf", "application/zip"})
FILE_ERRORS = re.compile(r"wrong type of the web page|webpage_media_empty|can't upload file by url", re.IGNORECASE)

CALLER_ERRORS = re.compile(r"can't parse|caption|button|markup|repl(y|ied)|thread|topic", re.IGNORECASE)
PROTECTED_CONTENT_ERRORS = re.compile(r"protected content|forwards_restricted", re.IGNORECASE)
RECIPIENT_REASONS = frozenset({"blocked", "deactivated"})  # none of these keeps a bot from reading a message
ORIGIN_REASONS = frozenset({"kicked", "not_member", "deleted"})  # when the recipient is a person

INCONCLUSIVE_ERRORS = (TelegramUnreachable, TelegramServerError)  # the same method may work a moment later
MAX_INCONCLUSIVE_ATTEMPTS = 2  # failed attempts after which the next method is tried


class Route(NamedTuple):
    """Key of a circuit: a method of one bot (by Telegram's id), and for a forward the chat it reads from."""

    bot: int
    method: UploadMethod
    origin: ChatId | None = None


@dataclass(kw_only=True, slots=True)
class OpenCircuit:
    """Time and duration of an open circuit."""

    since: float
    until: float
    pause: float


class MethodSelector:
    """Circuit breakers of all routes. Holds only failed ones: at most a few of each bot."""

    def __init__(self) -> None:
        self._open_circuits: dict[Route, OpenCircuit] = {}

    def __len__(self) -> int:
        """Return the number of routes that failed and have not worked since."""
        return len(self._open_circuits)

    def is_available(self, route: Route, now: float) -> bool:
        """Return whether the circuit is closed, or may be tried."""
        closed = self._open_circuits.get(route)
        return closed is None or now >= closed.until

    def try_acquire(self, route: Route, now: float) -> bool:
        """Return whether to try a route.

        When its circuit may be tried, one caller does; the others wait for the result.
        """
        closed = self._open_circuits.get(route)
        if closed is None:
            return True
        if now < closed.until:
            return False
        closed.until = now + closed.pause
        return True

    def succeeded(self, route: Route) -> None:
        """Close the circuit."""
        self._open_circuits.pop(route, None)

    def failed(self, route: Route, *, started_at: float, now: float) -> None:
        """Open the circuit, after a try that began at `started_at`. Tries from before the last opening do not count."""
        closed = self._open_circuits.get(route)
        if closed is None:
            self._open_circuits[route] = OpenCircuit(
                since=now, until=now + CIRCUIT_OPEN_MIN_SECONDS, pause=CIRCUIT_OPEN_MIN_SECONDS
            )
        elif started_at > closed.since:
            pause = min(CIRCUIT_OPEN_MAX_SECONDS, 2 * closed.pause)
            self._open_circuits[route] = OpenCircuit(since=now, until=now + pause, pause=pause)


def should_fall_back(method: UploadMethod, error: TelegramError, *, attempts: int) -> bool:
    """Return whether to try the next method at once. `attempts`: failed ones of the item so far."""
    if isinstance(error, INCONCLUSIVE_ERRORS):
        return attempts >= MAX_INCONCLUSIVE_ATTEMPTS
    match method:
        case UploadMethod.FORWARD:
            gone = isinstance(error, MessageNotFound | ChatUnreachable | InvalidFileId | BadRequest)
            return gone or type(error) is TelegramClientError  # a response without a file
        case UploadMethod.PATH | UploadMethod.URL:
            return isinstance(error, InvalidFileId | BadRequest)
        case UploadMethod.UPLOAD:
            return False
        case _:
            assert_never(method)


def is_item_error(method: UploadMethod, error: TelegramError) -> bool:
    """Return whether the method may well work for the bot's other items."""
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
    """Return whether sending the bytes may work where the copy failed.

    A chat that is not found or not accessible may be the recipient's or the warm-up chat: Telegram names neither.
    """
    if isinstance(error, ChatUnreachable):
        return error.reason not in RECIPIENT_REASONS
    if isinstance(error, BadRequest):
        return CALLER_ERRORS.search(error.description) is None
    return isinstance(error, MessageNotFound | InvalidFileId)


def is_origin_error(error: TelegramClientError, *, to: ChatId) -> bool:
    """Return whether no other message can be copied out of that chat either, whoever is the recipient."""
    if isinstance(error, ChatUnreachable):
        return to > 0 and error.reason in ORIGIN_REASONS
    return isinstance(error, BadRequest) and PROTECTED_CONTENT_ERRORS.search(error.description) is not None


def fits_url(kind: Kind, facts: MediaMetadata, *, name: str | None) -> bool:
    """Return whether Telegram can fetch the file by URL without a loss.

    Fetching by URL, it ignores thumbnail, sides, duration, title and streaming flag, and shows the URL's file name.
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
    """Return the possible routes of an item, cheapest first; the last is an upload."""
    found = []
    if item.origin is not None:
        found.append(Route(bot, UploadMethod.FORWARD, item.origin.chat_id))
    if paths:
        found.append(Route(bot, UploadMethod.PATH))
    if urls and fits_url(item.kind, item.blob.facts, name=item.name):
        found.append(Route(bot, UploadMethod.URL))
    return [*found, Route(bot, UploadMethod.UPLOAD)]
