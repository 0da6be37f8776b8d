"""Values that go into the Bot API's methods and come out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from telewarm.models import ChatId, FileId, Kind, MediaMetadata
from telewarm.telegram.files import MediaFile


@dataclass(frozen=True, kw_only=True, slots=True)
class SendOptions:
    """How a message is sent. The mappings are Telegram's own JSON and passed through as they are."""

    parse_mode: str | None = None
    entities: Sequence[Mapping[str, object]] | None = None  # of the text, or of the caption
    reply_markup: Mapping[str, object] | None = None
    reply_parameters: Mapping[str, object] | None = None
    message_thread_id: int | None = None
    disable_notification: bool = False
    protect_content: bool = False
    show_caption_above_media: bool = False
    has_spoiler: bool = False
    link_preview_options: Mapping[str, object] | None = None  # of a text
    message_effect_id: str | None = None
    extra: Mapping[str, object] | None = None  # parameters that we know nothing of


DEFAULT_OPTIONS = SendOptions()


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupItem:
    """One of the 2 to 10 media of a group: photos and videos, or only audios, or only documents."""

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
    telegram_id: int
    username: str
    first_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatPermissions:
    """What a member may send: anything at all, and what not."""

    may_send: bool = True
    refused: tuple[Kind, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    chat_id: ChatId
    type: str  # private, group, supergroup, channel
    name: str  # title, or first name, or username; may be empty
    protected: bool  # nothing can be forwarded out of it
    permissions: ChatPermissions = ChatPermissions()  # of a group's ordinary members


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatMember:
    """A bot as a member of a chat. `permissions`: its own, which count when it is restricted."""

    status: str  # creator, administrator, member, restricted, left, kicked
    may_post: bool | None  # of a channel's administrator
    permissions: ChatPermissions


@dataclass(frozen=True, kw_only=True, slots=True)
class TelegramFile:
    """`path`: below /file/bot<token>/ on the hosted server, an absolute path on a local one; None above 20 MB."""

    file_id: FileId
    file_unique_id: str
    bytes: int | None
    path: str | None
