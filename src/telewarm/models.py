"""Domain types. Values only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from unicodedata import category

import msgspec

from telewarm.ids import BotId, BroadcastId, ChatId, FileId, MediaId, MessageId, Sha256
from telewarm.message_set import MessageSet, Part

__all__ = ["BotId", "BroadcastId", "ChatId", "FileId", "MediaId", "MessageId", "MessageSet", "Part", "Sha256"]


class Kind(StrEnum):
    """Kind as which a blob is sent; Telegram may return another."""

    PHOTO = "photo"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    VOICE = "voice"
    ANIMATION = "animation"
    VIDEO_NOTE = "video_note"
    STICKER = "sticker"


class MediaState(StrEnum):
    """State of a media item: stored only, being warmed, with a file id, failed for good."""

    COLD = "cold"
    WARMING = "warming"
    READY = "ready"
    ERROR = "error"


class UploadMethod(StrEnum):
    """Method by which a file id was obtained, cheapest first."""

    FORWARD = "forward"
    PATH = "path"
    URL = "url"
    UPLOAD = "upload"


class ChatState(StrEnum):
    """Known state of a chat; a successful send makes it reachable again."""

    REACHABLE = "reachable"
    BLOCKED = "blocked"
    DEACTIVATED = "deactivated"
    KICKED = "kicked"
    NOT_MEMBER = "not_member"
    NOT_FOUND = "not_found"
    DELETED = "deleted"
    MIGRATED = "migrated"


class BroadcastState(StrEnum):
    """State of a broadcast. `scheduled`: started, before its time; `running`: also while it waits for its media."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    UNDOING = "undoing"
    UNDONE = "undone"


class DeliveryStatus(StrEnum):
    """Outcome of a delivery.

    `unknown`: perhaps sent, and not sent again automatically. `undone`: sent and deleted.
    """

    SENT = "sent"
    PARTIAL = "partial"  # a part of the messages was sent
    FAILED = "failed"
    UNREACHABLE = "unreachable"  # blocked, deactivated, kicked, not found
    SKIPPED = "skipped"  # known to be unreachable, without a call
    UNKNOWN = "unknown"
    UNDONE = "undone"


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaMetadata:
    """Metadata in a file's bytes. Sides in pixels as seen (EXIF rotation applied), duration in seconds."""

    bytes: int
    mime: str
    ext: str  # without the dot
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    title: str | None = None
    performer: str | None = None
    streamable: bool | None = None  # an MP4 whose index comes first, which plays while it loads


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """Bytes, identified by their hash, stored once whatever the number of bots."""

    sha256: Sha256
    storage_key: str
    thumbnail_key: str | None  # a JPEG within 320 x 320 and 200 kB, where Telegram wants one
    thumbnail_bytes: int | None = None  # None: no thumbnail, or one from a version that did not count
    facts: MediaMetadata


class SentMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message in Telegram's response; without file fields for text."""

    chat_id: ChatId
    message_id: MessageId
    kind: Kind | None  # as Telegram returned it
    file_id: FileId | None
    file_unique_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bot:
    """A Telegram bot as stored. The first warm-up chat is preferred."""

    id: BotId
    slug: str
    telegram_id: int
    username: str | None
    token: str = field(repr=False)
    warmup_chats: tuple[ChatId, ...]
    paused: bool = False  # a person paused its background work
    pause_seconds: float = 0.0  # remaining seconds of the whole bot's flood wait, at the time of reading
    chat_pauses: Mapping[ChatId, float] = field(default_factory=dict)  # remaining seconds, when read
    learned_limits: Mapping[str, float] = field(default_factory=dict)  # messages a window, by kind of limit
    deleted_at: datetime | None = None  # it does nothing until it is restored


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageRef:
    """Reference to a message that can be forwarded or copied."""

    chat_id: ChatId
    message_id: MessageId


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedFileId:
    """All that a send needs of a ready media item."""

    media_id: MediaId
    bot_id: BotId  # owner of the file id
    file_id: FileId
    kind: Kind  # as Telegram returned it: determines the method of sending


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedMedia:
    """A media item claimed for a warm-up: only the holder of its lease uploads it."""

    media_id: MediaId
    kind: Kind
    name: str | None
    attempts: int  # failed ones
    priority: int
    queued_at: datetime
    blob: Blob
    origin: MessageRef | None  # warm-up message of the same blob and kind that this bot can read
    waited: float = 0.0  # seconds from `queued_at` to the claim, by the database's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadResult:
    """A new file id, and the message that it came from."""

    media_id: MediaId
    way: UploadMethod
    file_id: FileId
    file_unique_id: str | None
    kind: Kind  # as Telegram returned it
    message: MessageRef
    in_warmup_chat: bool  # other bots can forward the message
    name: str | None = None  # of the item at the upload, as recipients see it
    download_seconds: float = 0.0  # until the bytes were on the local disk; 0 where they were not needed
    send_seconds: float = 0.0  # of the call that returned the file id


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaItem:
    """A media item, as shown to people."""

    id: MediaId
    bot_id: BotId
    sha256: Sha256
    kind: Kind
    name: str | None
    state: MediaState
    facts: MediaMetadata
    storage_key: str
    file_id: FileId | None
    file_unique_id: str | None
    sent_kind: Kind | None
    way: UploadMethod | None
    warmed_at: datetime | None
    attempts: int
    last_error_code: str | None
    last_error: str | None
    queued_at: datetime | None
    created_at: datetime
    sent_name: str | None = None  # name that recipients see, of the last warm-up; None before the first
    note: str | None = field(
        default=None, compare=False
    )  # of an added item: why it is a document, or the existing item's name


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRecord:
    """One entry of a bot's chat statuses."""

    chat_id: ChatId
    state: ChatState
    reason: str  # Telegram's description
    migrated_to: ChatId | None
    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Broadcast:
    """One message to many chats through one bot.

    The counts are of recipients and add up to `recipients`, together with the pending ones, `recipients - done`.
    """

    id: BroadcastId
    bot_id: BotId
    group_id: BroadcastId | None  # first of the broadcasts that were created together, for several bots
    name: str | None
    message: MessageSet
    state: BroadcastState
    reason: str | None  # why it is paused, unless by a person, or what it waits for
    refusal: str | None  # Telegram's description of the refusal that paused it once, and does not again
    gate: bool  # wait until the media are ready
    per_second: float | None  # maximum messages a second, below the bot's limits
    recipients: int
    duplicates: int  # repeated chat ids, dropped
    rejected: int  # rows without a chat id
    guess: str | None  # why a person should check the recipients before the start; None without a doubt
    counts: Mapping[DeliveryStatus, int]
    not_undone: int  # messages that could not be deleted
    in_flight: int
    starts_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def done(self) -> int:
        """Number of recipients with an outcome."""
        return sum(self.counts.values())


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of one recipient. `moved_to`: the supergroup that the group has become, and that got the message."""

    chat_id: ChatId
    outcome: DeliveryStatus | None  # None: pending
    message_ids: Sequence[MessageId] = ()
    error: str | None = None  # code and description
    moved_to: ChatId | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A cause of an outcome: its number of recipients, and one of them with its own description as the example."""

    outcome: DeliveryStatus
    count: int
    chat_id: ChatId
    error: str


class EventType(StrEnum):
    """Type of an event. `reset`: events were lost, and clients have to read the present state."""

    MEDIA_ADDED = "media.added"
    MEDIA_COLD = "media.cold"
    MEDIA_WARMING = "media.warming"
    MEDIA_READY = "media.ready"
    MEDIA_ERROR = "media.error"
    MEDIA_RENAMED = "media.renamed"
    MEDIA_REMOVED = "media.removed"
    BOT_CHANGED = "bot.changed"
    BROADCAST_CHANGED = "broadcast.changed"
    BROADCAST_PROGRESS = "broadcast.progress"
    CHAT_CHANGED = "chat.changed"
    WORKER_STATUS = "worker.status"
    RESET = "reset"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event of any process. Ids increase by one. `bot`: a slug; None: about no single bot."""

    id: int
    type: EventType
    at: datetime
    bot: str | None
    facts: Mapping[str, Any]


INVISIBLE_CHARACTERS = frozenset(
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f\ufeff\ufff9\ufffa\ufffb"
)  # change the direction of text, so that `gpj.exe` reads `exe.jpg`, or are invisible
JOINERS = "\u200c\u200d"  # needed in Persian names and in emoji sequences
UNPRINTABLE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, surrogates, line separators


def printable_name(text: str) -> str:
    """Remove characters that break the line, change its direction or are invisible."""
    kept = "".join(
        char for char in text if char not in INVISIBLE_CHARACTERS and category(char) not in UNPRINTABLE_CATEGORIES
    )
    return kept.strip().strip(JOINERS).strip()
