"""Messages as the Bot API returns them, in its order of fields (facts 5)."""

from __future__ import annotations

from collections.abc import Callable

from telewarm.sandbox import fileids
from telewarm.sandbox.bots import Bot
from telewarm.sandbox.chats import Chat
from telewarm.sandbox.files import File, Size
from telewarm.sandbox.mail import Content, Message
from telewarm.sandbox.state import State, salt

Shown = dict[str, object]
DETAILS = {"text_link": "url", "custom_emoji": "custom_emoji_id"}
Ids = Callable[[str, str, int], Shown]  # kind, letter, bytes -> the file's id fields


def message_of(
    state: State, bot: Bot, chat: Chat, message: Message, *, group: str = "", origin: Shown | None = None
) -> Shown:
    """Return a message with the bot's own file ids.

    `group`: its media_group_id; `origin`: the fields of a forward.
    """
    content = message.content
    where = chat.as_chat()
    shown: Shown = {"message_id": message.id}
    if chat.type == "channel":
        shown["sender_chat"] = where
    else:
        shown["from"] = bot.as_user()
    shown["chat"] = where
    shown["date"] = message.date
    if origin:
        shown.update(origin)
    if group:
        shown["media_group_id"] = group
    shown.update(content_of(state, bot, message))
    shown.update(content.extras)
    return shown


def content_of(state: State, bot: Bot, message: Message) -> Shown:
    """Return the content fields."""
    content = message.content
    if content.file is None:
        shown: Shown = {"text": content.text}
        if content.entities:
            shown["entities"] = entities_of(content)
        return shown
    shown = media_of(content.file, _ids(state, bot, content.file, message))
    if content.text:
        shown["caption"] = content.text
        if content.entities:
            shown["caption_entities"] = entities_of(content)
    return shown


def entities_of(content: Content) -> list[Shown]:
    """Return the entities."""
    shown: list[Shown] = []
    for offset, length, kind, detail in content.entities:
        entity: Shown = {"offset": offset, "length": length, "type": kind}
        if detail:
            entity[DETAILS.get(kind, "language")] = detail
        shown.append(entity)
    return shown


def origin_of(chat: Chat, message: Message, sender: Bot) -> Shown:
    """Return the origin of a forwarded message, in the new and in the old fields."""
    if chat.type == "channel":
        where = chat.as_chat()
        origin = {"type": "channel", "chat": where, "message_id": message.id, "date": message.date}
        return {
            "forward_origin": origin,
            "forward_from_chat": where,
            "forward_from_message_id": message.id,
            "forward_date": message.date,
        }
    user = sender.as_user()
    origin = {"type": "user", "sender_user": user, "date": message.date}
    return {"forward_origin": origin, "forward_from": user, "forward_date": message.date}


def _ids(state: State, bot: Bot, file: File, message: Message) -> Ids:
    """Return the file ids for one bot and one message: the reference in them differs each time."""
    owner = state.files.owner_hash(bot.id, file)
    reference = fileids.reference(message.chat, message.id, message.date, salt())

    def show(kind: str, letter: str, size: int) -> Shown:
        """Return the id fields of a file."""
        shown: Shown = {
            "file_id": fileids.encode(kind, file.id, owner, reference=reference, letter=letter),
            "file_unique_id": fileids.unique(kind, file.id, letter),
        }
        if size:
            shown["file_size"] = size
        return shown

    return show


def media_of(file: File, ids: Ids) -> Shown:
    """Return the content field of a media message; an animation has a `document`, too."""
    if file.kind == "photo":
        return {"photo": [_sized(ids("photo", size.letter, size.size), size) for size in file.sizes]}
    tail = {**_thumbnails(file, ids), **ids(file.kind, "", file.size)}
    head = HEADS[file.kind](file)
    if file.kind == "animation":
        return {"animation": head | tail, "document": _names(file) | tail}
    return {file.kind: head | tail}


def _sized(shown: Shown, size: Size) -> Shown:
    shown["width"] = size.width
    shown["height"] = size.height
    return shown


def _thumbnails(file: File, ids: Ids) -> Shown:
    if file.thumbnail is None:
        return {}
    size = file.thumbnail
    shown = _sized(ids("thumbnail", size.letter, size.size), size)
    return {"thumbnail": shown, "thumb": shown}


def _names(file: File) -> Shown:
    shown: Shown = {}
    if file.name:
        shown["file_name"] = file.name
    if file.mime:
        shown["mime_type"] = file.mime
    return shown


def _video(file: File) -> Shown:
    return {"duration": file.duration, "width": file.width, "height": file.height, **_names(file)}


def _animation(file: File) -> Shown:
    return {**_names(file), "duration": file.duration, "width": file.width, "height": file.height}


def _audio(file: File) -> Shown:
    shown: Shown = {"duration": file.duration, **_names(file)}
    if file.title:
        shown["title"] = file.title
    if file.performer:
        shown["performer"] = file.performer
    return shown


def _voice(file: File) -> Shown:
    return {"duration": file.duration, "mime_type": file.mime}


def _video_note(file: File) -> Shown:
    return {"duration": file.duration, "length": file.width}


def _sticker(file: File) -> Shown:
    return {
        "width": file.width,
        "height": file.height,
        "is_animated": file.is_animated,
        "is_video": False,
        "type": "regular",
    }


HEADS: dict[str, Callable[[File], Shown]] = {
    "video": _video,
    "animation": _animation,
    "audio": _audio,
    "document": _names,
    "voice": _voice,
    "video_note": _video_note,
    "sticker": _sticker,
}
