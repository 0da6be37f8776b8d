"""Arguments and results of the Bot API methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from telewarm.models import ChatId, FileId, Kind, MediaMetadata
from telewarm.telegram.files import MediaFile


@dataclass(frozen=True, kw_only=True, slots=True)
class SendOptions:
    """Options of a message. The mappings are Telegram's own JSON, passed through unchanged."""

    parse_mode: str | None = None
    entities: Sequence[Mapping[str, object]] | None = None  # of the text or the caption
    reply_markup: Mapping[str, object] | None = None
    reply_parameters: Mapping[str, object] | None = None
    message_thread_id: int | None = None
    disable_notification: bool = False
    protect_content: bool = False
    show_caption_above_media: bool = False
    has_spoiler: bool = False
    link_preview_options: Mapping[str, object] | None = None  # of a text message
    message_effect_id: str | None = None
    extra: Mapping[str, object] | None = None  # other parameters, passed through


DEFAULT_OPTIONS = SendOptions()


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupItem:
    """One of the 2 to 10 media of an album: photos and videos, or only audios, or only documents."""

    kind: Kind
    file: MediaFile
    facts: MediaMetadata | None = None
    caption: str | None = None
    parse_mode: str | None = None
    entities: Sequence[Mapping[str, object]] | None = None
    has_spoiler: bool = False
    extra: Mapping[str, object] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BotProfile:
    """Profile of a bot."""

    telegram_id: int
    username: str
    first_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatPermissions:
    """Rights of a member: to send anything at all, and kinds that are excluded."""

    may_send: bool = True
    refused: tuple[Kind, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    """A chat, as far as the health check needs it."""

    chat_id: ChatId
    type: str  # private, group, supergroup, channel
    name: str  # title, or first name, or username; may be empty
    protected: bool  # nothing can be forwarded from it
    permissions: ChatPermissions = ChatPermissions()  # of a group's ordinary members


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatMember:
    """A bot's membership of a chat. `permissions`: its own, which apply when it is restricted."""

    status: str  # creator, administrator, member, restricted, left, kicked
    may_post: bool | None  # of a channel's administrator
    permissions: ChatPermissions


@dataclass(frozen=True, kw_only=True, slots=True)
class TelegramFile:
    """A file. `path`: below /file/bot<token>/ on the hosted server, absolute on a local one; None above 20 MB."""

    file_id: FileId
    file_unique_id: str
    bytes: int | None
    path: str | None
