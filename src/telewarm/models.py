"""The domain as types. Values only: nothing here does I/O."""

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
    """What a blob is sent as; also the kind that Telegram returned, which may differ."""

    PHOTO = "photo"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    VOICE = "voice"
    ANIMATION = "animation"
    VIDEO_NOTE = "video_note"
    STICKER = "sticker"


class MediaState(StrEnum):
    """Of a media item: stored and not asked for, being warmed, has a file id, or failed for good."""

    COLD = "cold"
    WARMING = "warming"
    READY = "ready"
    ERROR = "error"


class UploadMethod(StrEnum):
    """How a file id was got, cheapest first."""

    FORWARD = "forward"
    PATH = "path"
    URL = "url"
    UPLOAD = "upload"


class ChatState(StrEnum):
    """What the ledger knows of a chat: a success makes it reachable again."""

    REACHABLE = "reachable"
    BLOCKED = "blocked"
    DEACTIVATED = "deactivated"
    KICKED = "kicked"
    NOT_MEMBER = "not_member"
    NOT_FOUND = "not_found"
    DELETED = "deleted"
    MIGRATED = "migrated"


class BroadcastState(StrEnum):
    """`scheduled`: started, and its time has not come; `running` also while it waits for its media."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    UNDOING = "undoing"
    UNDONE = "undone"


class DeliveryStatus(StrEnum):
    """Of a delivery. `unknown`: it may have been sent, and is not sent again by itself. `undone`: sent and deleted."""

    SENT = "sent"
    PARTIAL = "partial"  # some messages of the set went
    FAILED = "failed"
    UNREACHABLE = "unreachable"  # blocked, deactivated, kicked, not found
    SKIPPED = "skipped"  # the ledger knew that it is unreachable
    UNKNOWN = "unknown"
    UNDONE = "undone"


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaMetadata:
    """What a file's bytes say of themselves. Sides in pixels as seen (EXIF-turned), duration in seconds."""

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
    streamable: bool | None = None  # an MP4 whose index comes first: it plays before all of it has come


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """Bytes, known by their hash, stored once whatever the number of bots."""

    sha256: Sha256
    storage_key: str
    thumbnail_key: str | None  # a JPEG within 320 x 320 and 200 kB, where Telegram wants one
    thumbnail_bytes: int | None = None  # None: there is none, or it was made before they were counted
    facts: MediaMetadata


class SentMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message as Telegram answered it; the file part is None for text."""

    chat_id: ChatId
    message_id: MessageId
    kind: Kind | None  # the kind that Telegram returned
    file_id: FileId | None
    file_unique_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bot:
    """A Telegram bot as we keep it. The first warm-up chat is the preferred one."""

    id: BotId
    slug: str
    telegram_id: int
    username: str | None
    token: str = field(repr=False)
    warmup_chats: tuple[ChatId, ...]
    paused: bool = False  # a person stopped its background work
    pause_seconds: float = 0.0  # seconds of a flood wait of the whole bot, when this was read
    chat_pauses: Mapping[ChatId, float] = field(default_factory=dict)  # seconds of flood waits, when this was read
    learned_limits: Mapping[str, float] = field(default_factory=dict)  # messages a window, by kind of limit
    deleted_at: datetime | None = None  # then it does nothing until somebody brings it back


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageRef:
    """A message that can be forwarded or copied."""

    chat_id: ChatId
    message_id: MessageId


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedFileId:
    """All that a send needs of a ready media item."""

    media_id: MediaId
    bot_id: BotId  # the file id is this bot's and no other's
    file_id: FileId
    kind: Kind  # the kind that Telegram returned: send with its method


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedMedia:
    """A media item in hand: its lease is ours, nobody else places it."""

    media_id: MediaId
    kind: Kind
    name: str | None
    attempts: int  # failed ones so far
    priority: int
    queued_at: datetime
    blob: Blob
    origin: MessageRef | None  # a warm-up message of the same blob and kind that this bot can read
    waited: float = 0.0  # seconds from `queued_at` to the claim, by the database's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadResult:
    """A file id, just got, and the message that it came in."""

    media_id: MediaId
    way: UploadMethod
    file_id: FileId
    file_unique_id: str | None
    kind: Kind  # the kind that Telegram returned
    message: MessageRef
    in_warmup_chat: bool  # then other bots can forward the message
    name: str | None = None  # of the item when the file went up: recipients see it
    download_seconds: float = 0.0  # seconds until the bytes were on local disk; 0 where they were not needed
    send_seconds: float = 0.0  # seconds of the call that gave the file id


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaItem:
    """One row of a bot's library, as people see it."""

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
    sent_name: str | None = None  # the `name` that recipients see: that of the last warm-up; None while there is none
    note: str | None = field(
        default=None, compare=False
    )  # of one just added: why it is a document, or as what it was there


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRecord:
    """One line of a bot's chat ledger."""

    chat_id: ChatId
    state: ChatState
    reason: str  # Telegram's words
    migrated_to: ChatId | None
    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Broadcast:
    """One message set to many chats through one bot. The counts are of recipients and add up to `recipients`, with
    those that are still to come: `recipients - done`.
    """

    id: BroadcastId
    bot_id: BotId
    group_id: BroadcastId | None  # the first of the broadcasts that were made together, for several bots
    name: str | None
    message: MessageSet
    state: BroadcastState
    reason: str | None  # why it is paused, when no person did it, or what it waits for
    refusal: str | None  # the cause in Telegram's words that paused it once, and does not a second time
    gate: bool  # wait until its media are ready
    per_second: float | None  # a cap of its own, below the bot's limits
    recipients: int
    duplicates: int  # chat ids that were given more than once, and dropped
    rejected: int  # lines that hold no chat id
    guess: str | None  # why a person should look at its recipients before the start; None when there is no doubt
    counts: Mapping[DeliveryStatus, int]
    not_undone: int  # messages that could not be deleted
    in_flight: int
    starts_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def done(self) -> int:
        return sum(self.counts.values())


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recipient. `moved_to`: the supergroup that the group has become, where the message went."""

    chat_id: ChatId
    outcome: DeliveryStatus | None  # None: still to come
    message_ids: Sequence[MessageId] = ()
    error: str | None = None  # code and words
    moved_to: ChatId | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Why recipients of a broadcast have an outcome: how many, and one of them with its own words as the example."""

    outcome: DeliveryStatus
    count: int
    chat_id: ChatId
    error: str


class EventType(StrEnum):
    """What an event tells of. `reset`: that events were lost; what is shown is to be read anew."""

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
    """Something that happened, in whatever process. Ids go up by one. `bot`: a slug; None: it is not about one bot."""

    id: int
    type: EventType
    at: datetime
    bot: str | None
    facts: Mapping[str, Any]


INVISIBLE_CHARACTERS = frozenset(
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f\ufeff\ufff9\ufffa\ufffb"
)  # they turn the direction of text, so that `gpj.exe` reads `exe.jpg`, or hide in it
JOINERS = "\u200c\u200d"  # Persian and families of emoji need them within a name
UNPRINTABLE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, halves of surrogate pairs, separators of lines


def printable_name(text: str) -> str:
    """A name without what breaks its line, turns it around or cannot be seen."""
    kept = "".join(
        char for char in text if char not in INVISIBLE_CHARACTERS and category(char) not in UNPRINTABLE_CATEGORIES
    )
    return kept.strip().strip(JOINERS).strip()
