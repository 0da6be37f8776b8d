"""Parts of Telegram's responses that are read, and their conversion to values."""

from __future__ import annotations

import msgspec

from telewarm.models import ChatId, FileId, Kind, MessageId, SentMessage
from telewarm.telegram.responses import ResponseDecoder
from telewarm.telegram.values import BotProfile, Chat, ChatMember, ChatPermissions, TelegramFile


class File(msgspec.Struct):
    """A file."""

    file_id: str
    file_unique_id: str = ""
    file_size: int | None = None
    file_path: str | None = None


class Permissions(msgspec.Struct):
    """Rights in a chat."""

    can_send_messages: bool = True
    can_send_photos: bool = True
    can_send_videos: bool = True
    can_send_audios: bool = True
    can_send_documents: bool = True
    can_send_voice_notes: bool = True
    can_send_video_notes: bool = True
    can_send_other_messages: bool = True  # animations and stickers


class MemberPart(Permissions, kw_only=True):
    """A membership."""

    status: str
    is_member: bool = True  # of a restricted member
    can_post_messages: bool | None = None


class ChatPart(msgspec.Struct):
    """A chat."""

    id: int
    type: str = ""
    title: str = ""
    first_name: str = ""
    username: str = ""
    has_protected_content: bool = False
    permissions: Permissions | None = None


class Message(msgspec.Struct):
    """A message."""

    message_id: int
    chat: ChatPart
    animation: File | None = None
    video: File | None = None
    video_note: File | None = None
    voice: File | None = None
    audio: File | None = None
    sticker: File | None = None
    photo: list[File] | None = None  # sizes, the largest last
    document: File | None = None


class MessageIdPart(msgspec.Struct):
    """The id of a copied message."""

    message_id: int


class User(msgspec.Struct):
    """A user."""

    id: int
    first_name: str = ""
    username: str = ""


MESSAGE_DECODER = ResponseDecoder(Message)
MESSAGES_DECODER = ResponseDecoder(list[Message])
MESSAGE_ID_DECODER = ResponseDecoder(MessageIdPart)
USER_DECODER = ResponseDecoder(User)
CHAT_DECODER = ResponseDecoder(ChatPart)
MEMBER_DECODER = ResponseDecoder(MemberPart)
FILE_DECODER = ResponseDecoder(File)
BOOL_DECODER = ResponseDecoder(bool)


def sent(message: Message) -> SentMessage:
    """Convert a message."""
    kind, file = media_of(message)
    return SentMessage(
        chat_id=ChatId(message.chat.id),
        message_id=MessageId(message.message_id),
        kind=kind,
        file_id=None if file is None else FileId(file.file_id),
        file_unique_id=None if file is None else file.file_unique_id or None,
    )


def media_of(message: Message) -> tuple[Kind | None, File | None]:
    """Return the returned kind and its file. `document` is checked last: an animation has one, too."""
    if message.photo:
        return Kind.PHOTO, message.photo[-1]
    for kind in (Kind.ANIMATION, Kind.VIDEO, Kind.VIDEO_NOTE, Kind.VOICE, Kind.AUDIO, Kind.STICKER, Kind.DOCUMENT):
        file: File | None = getattr(message, kind.value)
        if file is not None:
            return kind, file
    return None, None


def bot_profile(user: User) -> BotProfile:
    """Convert a bot's user."""
    return BotProfile(telegram_id=user.id, username=user.username, first_name=user.first_name)


def chat(part: ChatPart) -> Chat:
    """Convert a chat."""
    return Chat(
        chat_id=ChatId(part.id),
        type=part.type,
        name=part.title or part.first_name or part.username,
        protected=part.has_protected_content,
        permissions=ChatPermissions() if part.permissions is None else _rights(part.permissions),
    )


def member(part: MemberPart) -> ChatMember:
    """Convert a membership."""
    left = part.status == "restricted" and not part.is_member
    return ChatMember(
        status="left" if left else part.status, may_post=part.can_post_messages, permissions=_rights(part)
    )


def _rights(part: Permissions) -> ChatPermissions:
    allowed = {
        Kind.PHOTO: part.can_send_photos,
        Kind.VIDEO: part.can_send_videos,
        Kind.AUDIO: part.can_send_audios,
        Kind.DOCUMENT: part.can_send_documents,
        Kind.VOICE: part.can_send_voice_notes,
        Kind.VIDEO_NOTE: part.can_send_video_notes,
        Kind.ANIMATION: part.can_send_other_messages,
        Kind.STICKER: part.can_send_other_messages,
    }
    refused = tuple(kind for kind, may in allowed.items() if not may)
    return ChatPermissions(may_send=part.can_send_messages or len(refused) < len(allowed), refused=refused)


def telegram_file(file: File) -> TelegramFile:
    """Convert a file."""
    return TelegramFile(
        file_id=FileId(file.file_id),
        file_unique_id=file.file_unique_id,
        bytes=file.file_size,
        path=file.file_path,
    )
