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

FIRST, LONGEST = 60.0, 3600.0  # seconds for which a way is closed

URL_BYTES = 20_000_000  # Telegram fetches no larger file; its "MB" is nowhere told, so the smaller reading
URL_PHOTO_BYTES = 5_000_000
URL_VOICE_BYTES = 1_000_000  # a longer voice note by URL becomes a file
URL_PICTURES = frozenset({"image/jpeg", "image/png", "image/webp"})
URL_DOCUMENTS = frozenset({"application/pdf", "application/zip"})
OF_THE_FILE = re.compile(r"wrong type of the web page|webpage_media_empty|can't upload file by url", re.IGNORECASE)

OF_THE_CALLER = re.compile(r"can't parse|caption|button|markup|repl(y|ied)|thread|topic", re.IGNORECASE)
PROTECTED = re.compile(r"protected content|forwards_restricted", re.IGNORECASE)
OF_THE_RECIPIENT = frozenset({"blocked", "deactivated"})  # nothing of the kind keeps a bot from reading a message
OF_THE_ORIGIN = frozenset({"kicked", "not_member", "deleted"})  # when the recipient is a person

INCONCLUSIVE = (TelegramUnreachable, TelegramServerError)  # the same way may work in a moment
ENOUGH = 2  # failed attempts after which an undecided way gives way to the next


class Route(NamedTuple):
    """What is learned about: a way of one bot (by Telegram's id), for a forward that from one chat."""

    bot: int
    way: UploadMethod
    origin: ChatId | None = None


@dataclass(kw_only=True, slots=True)
class OpenCircuit:
    since: float
    until: float
    pause: float


class MethodSelector:
    """What was learned. Holds only what failed: at most a few routes of each bot."""

    def __init__(self) -> None:
        self._closed: dict[Route, OpenCircuit] = {}

    def __len__(self) -> int:
        """Routes that are closed, or were and have not worked since."""
        return len(self._closed)

    def is_open(self, route: Route, now: float) -> bool:
        closed = self._closed.get(route)
        return closed is None or now >= closed.until

    def enter(self, route: Route, now: float) -> bool:
        """Whether to try it. When its pause is over, one may; the others wait for what that one finds."""
        closed = self._closed.get(route)
        if closed is None:
            return True
        if now < closed.until:
            return False
        closed.until = now + closed.pause
        return True

    def worked(self, route: Route) -> None:
        self._closed.pop(route, None)

    def failed(self, route: Route, *, began: float, now: float) -> None:
        """A try that began at `began` failed. Those under way when the way was closed bring no news."""
        closed = self._closed.get(route)
        if closed is None:
            self._closed[route] = OpenCircuit(since=now, until=now + FIRST, pause=FIRST)
        elif began > closed.since:
            pause = min(LONGEST, 2 * closed.pause)
            self._closed[route] = OpenCircuit(since=now, until=now + pause, pause=pause)


def falls_back(way: UploadMethod, error: TelegramError, *, attempts: int) -> bool:
    """Whether the next way is tried at once. `attempts`: failed ones that the item has had before."""
    if isinstance(error, INCONCLUSIVE):
        return attempts >= ENOUGH
    match way:
        case UploadMethod.FORWARD:
            gone = isinstance(error, MessageNotFound | ChatUnreachable | InvalidFileId | BadRequest)
            return gone or type(error) is TelegramClientError  # an answer without a file
        case UploadMethod.PATH | UploadMethod.URL:
            return isinstance(error, InvalidFileId | BadRequest)
        case UploadMethod.UPLOAD:
            return False
        case _:
            assert_never(way)


def is_item_error(way: UploadMethod, error: TelegramError) -> bool:
    """Whether the way may well work for the bot's other items."""
    match way:
        case UploadMethod.FORWARD:
            return not isinstance(error, ChatUnreachable | BadRequest)
        case UploadMethod.PATH:
            return isinstance(error, BadRequest)
        case UploadMethod.URL:
            return isinstance(error, BadRequest) or OF_THE_FILE.search(str(error)) is not None
        case UploadMethod.UPLOAD:
            return True
        case _:
            assert_never(way)


def cannot_copy(error: TelegramClientError) -> bool:
    """Whether sending the bytes may work where the copy did not.

    A chat that is not found or not accessible may be the recipient's or the warm-up chat: Telegram names neither.
    """
    if isinstance(error, ChatUnreachable):
        return error.reason not in OF_THE_RECIPIENT
    if isinstance(error, BadRequest):
        return OF_THE_CALLER.search(error.description) is None
    return isinstance(error, MessageNotFound | InvalidFileId)


def shuts_origin(error: TelegramClientError, *, to: ChatId) -> bool:
    """Whether no other message can be copied out of that chat either, whoever is to get it."""
    if isinstance(error, ChatUnreachable):
        return to > 0 and error.reason in OF_THE_ORIGIN
    return isinstance(error, BadRequest) and PROTECTED.search(error.description) is not None


def fits_url(kind: Kind, facts: MediaMetadata, *, name: str | None) -> bool:
    """Whether Telegram can fetch this file and nothing is lost by it.

    By URL it ignores our thumbnail, sides, duration, title and streaming flag, and shows the URL's own file name.
    """
    match kind:
        case Kind.PHOTO:
            return facts.mime in URL_PICTURES and facts.bytes <= URL_PHOTO_BYTES
        case Kind.DOCUMENT:
            return facts.mime in URL_DOCUMENTS and facts.bytes <= URL_BYTES and name is None
        case Kind.VOICE:
            return facts.mime == "audio/ogg" and facts.bytes <= URL_VOICE_BYTES
        case Kind.STICKER:
            return facts.mime == "image/webp" and facts.bytes <= URL_BYTES
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
