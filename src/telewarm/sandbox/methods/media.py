"""Media methods: eight of them, with one order of checks (facts 4.4)."""

from __future__ import annotations

from telewarm.sandbox.call import Call
from telewarm.sandbox.chats import check_kind
from telewarm.sandbox.entities import Parsed, check_caption
from telewarm.sandbox.errors import bad
from telewarm.sandbox.inputs import (
    MAX_DURATION,
    MAX_SIDE,
    NOTE_SIDE,
    Attributes,
    check_input,
    find_input,
    resolve,
    store,
)
from telewarm.sandbox.mail import Content
from telewarm.sandbox.methods.common import deliver, extras, parse_caption
from telewarm.sandbox.render import message_of
from telewarm.sandbox.uploads import Upload


async def send_photo(call: Call) -> object:
    """Send a photo."""
    return await _send(call, "photo", Attributes())


async def send_video(call: Call) -> object:
    """Send a video."""
    return await _send(call, "video", _sides(call))


async def send_animation(call: Call) -> object:
    """Send an animation."""
    return await _send(call, "animation", _sides(call))


async def send_audio(call: Call) -> object:
    """Send an audio."""
    attributes = Attributes(
        duration=_duration(call),
        title=call.text("title"),
        performer=call.text("performer"),
        thumbnail=thumbnail(call),
    )
    return await _send(call, "audio", attributes)


async def send_document(call: Call) -> object:
    """Send a document."""
    detect = not call.flag("disable_content_type_detection")
    return await _send(call, "document", Attributes(thumbnail=thumbnail(call), detect=detect))


async def send_voice(call: Call) -> object:
    """Send a voice message."""
    return await _send(call, "voice", Attributes(duration=_duration(call)))


async def send_video_note(call: Call) -> object:
    """Send a video note."""
    length = call.integer("length", 0, MAX_SIDE)
    if length > NOTE_SIDE:
        raise bad("wrong video note length")
    attributes = Attributes(width=length, height=length, duration=_duration(call), thumbnail=thumbnail(call))
    return await _send(call, "video_note", attributes)


async def send_sticker(call: Call) -> object:
    """Send a sticker."""
    return await _send(call, "sticker", Attributes())


async def _send(call: Call, kind: str, attributes: Attributes) -> object:
    state, bot = call.state, call.bot
    given = find_input(call, kind, call.text(kind), kind, attributes)
    captioned = kind not in {"sticker", "video_note"}
    caption = parse_caption(call) if captioned else Parsed("")
    shown = extras(call)
    chat = state.find_chat_for_post(bot, call.text("chat_id"))
    given = check_input(call, given)
    check_caption(caption)
    check_kind(chat, kind)
    with state.gate.unsent(bot.id, chat.id, 1):
        file, kept = await resolve(call, given)
        content = Content(bot.id, file, caption.text, caption.entities, shown, call.flag("protect_content"))
        message = deliver(call, chat, content)
        store(call, file, kept)
    return message_of(state, bot, chat, message)


def _sides(call: Call) -> Attributes:
    return Attributes(
        width=call.integer("width", 0, MAX_SIDE),
        height=call.integer("height", 0, MAX_SIDE),
        duration=_duration(call),
        thumbnail=thumbnail(call),
    )


def _duration(call: Call) -> int:
    return call.integer("duration", 0, MAX_DURATION)


def thumbnail(call: Call) -> Upload | None:
    """Return the uploaded thumbnail: `thumbnail`, the old name `thumb`, or an attachment."""
    for name in ("thumbnail", "thumb"):
        value = call.text(name)
        upload = call.files.get(value.removeprefix("attach://") if value.startswith("attach://") else name)
        if upload is not None:
            return upload
    return None
