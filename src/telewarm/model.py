"""The words of Telewarm as types. Values only: nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

BotId = NewType("BotId", int)  # our row; not Telegram's id of the bot
MediaId = NewType("MediaId", int)
ChatId = NewType("ChatId", int)  # Telegram's: groups and channels are below zero
MessageId = NewType("MessageId", int)
Sha256 = NewType("Sha256", str)  # 64 lower-case hex digits
FileId = NewType("FileId", str)  # belongs to one bot


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


class State(StrEnum):
    """Of a media item: stored and not asked for, being warmed, has a file id, or failed for good."""

    COLD = "cold"
    WARMING = "warming"
    READY = "ready"
    ERROR = "error"


class Way(StrEnum):
    """How a file id was got, cheapest first."""

    FORWARD = "forward"
    PATH = "path"
    URL = "url"
    UPLOAD = "upload"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """Bytes, known by their hash, stored once whatever the number of bots."""

    sha256: Sha256
    storage_key: str
    thumbnail_key: str | None  # a JPEG within 320 x 320 and 200 kB, where Telegram wants one
    thumbnail_bytes: int | None = None  # None: there is none, or it was made before they were counted
    facts: Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
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
    pause_left: float = 0.0  # seconds of a flood wait of the whole bot, when this was read
    closed_chats: Mapping[ChatId, float] = field(default_factory=dict)  # seconds of flood waits, when this was read
    learned: Mapping[str, float] = field(default_factory=dict)  # messages a window, by kind of limit


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageRef:
    """A message that can be forwarded or copied."""

    chat_id: ChatId
    message_id: MessageId


@dataclass(frozen=True, kw_only=True, slots=True)
class Warm:
    """All that a send needs of a ready media item."""

    media_id: MediaId
    bot_id: BotId  # the file id is this bot's and no other's
    file_id: FileId
    kind: Kind  # the kind that Telegram returned: send with its method


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
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
class Placed:
    """A file id, just got, and the message that it came in."""

    media_id: MediaId
    way: Way
    file_id: FileId
    file_unique_id: str | None
    kind: Kind  # the kind that Telegram returned
    message: MessageRef
    in_warmup_chat: bool  # then other bots can forward the message
    download: float = 0.0  # seconds until the bytes were on local disk; 0 where they were not needed
    send: float = 0.0  # seconds of the call that gave the file id


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaItem:
    """One row of a bot's library, as people see it."""

    id: MediaId
    bot_id: BotId
    sha256: Sha256
    kind: Kind
    name: str | None
    state: State
    facts: Facts
    storage_key: str
    file_id: FileId | None
    file_unique_id: str | None
    sent_kind: Kind | None
    way: Way | None
    warmed_at: datetime | None
    attempts: int
    last_error_code: str | None
    last_error: str | None
    queued_at: datetime | None
    created_at: datetime
