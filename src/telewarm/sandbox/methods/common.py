"""Steps that several sending methods share."""

from __future__ import annotations

import msgspec

from telewarm.sandbox.bots import Bot
from telewarm.sandbox.call import Call
from telewarm.sandbox.chats import Chat, check_delivery, check_topic
from telewarm.sandbox.entities import Parsed, parse
from telewarm.sandbox.errors import bad
from telewarm.sandbox.mail import Content, Message

ECHOED = {  # parameters whose value the message shows again, and under which name
    "link_preview_options": "link_preview_options",
    "message_effect_id": "effect_id",
    "business_connection_id": "business_connection_id",
    "message_thread_id": "message_thread_id",
    "suggested_post_parameters": "suggested_post_info",
    "start_timestamp": "start_timestamp",
    "cover": "cover",
}


def parse_caption(call: Call) -> Parsed:
    """Parse a caption."""
    return parse(call.text("caption"), call.text("parse_mode"))


def parse_markup(call: Call) -> tuple[tuple[str, object], ...]:
    """Return the inline keyboard, which a message shows; other markup is only checked to be JSON."""
    raw = call.text("reply_markup")
    if not raw:
        return ()
    try:
        markup = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        raise bad("can't parse reply keyboard markup JSON object") from None
    if not isinstance(markup, dict):
        raise bad("object expected as reply markup")
    return (("reply_markup", markup),) if "inline_keyboard" in markup else ()


def extras(call: Call) -> tuple[tuple[str, object], ...]:
    """Return the flags and the markup that a message shows."""
    shown: list[tuple[str, object]] = []
    if call.flag("show_caption_above_media"):
        shown.append(("show_caption_above_media", True))
    if call.flag("has_spoiler"):
        shown.append(("has_media_spoiler", True))
    if call.flag("protect_content"):
        shown.append(("has_protected_content", True))
    for name, shown_as in ECHOED.items():
        if value := call.text(name):
            shown.append((shown_as, _plain(value)))
    return (*shown, *parse_markup(call))


def _plain(value: str) -> object:
    """Decode a parameter that is JSON."""
    if not value.startswith(("{", "[")):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        raise bad("can't parse JSON object") from None


def check_reply(call: Call, chat: Chat) -> None:
    """Check that the message to reply to exists in this chat. Raises ApiError."""
    said = _plain(call.text("reply_parameters"))
    if not isinstance(said, dict):
        return
    message_id = said.get("message_id", 0)
    if not isinstance(message_id, int) or str(said.get("chat_id", chat.id)) != str(chat.id):
        return  # of another chat, of which nothing is known here
    if said.get("allow_sending_without_reply") is True or not message_id:
        return
    if call.state.mail.box(chat, call.bot.id).get(chat.id, message_id) is None:
        raise bad("message to be replied not found")


def deliver(call: Call, chat: Chat, content: Content) -> Message:
    """Deliver a message, the end of step 7: flood limits, the recipient's side, the effect."""
    call.state.charge(call.bot, chat)
    check_topic(chat, call.integer("message_thread_id", 0))
    check_delivery(chat, call.bot)
    check_reply(call, chat)
    return call.state.post(call.bot, chat, content)


def sender_of(call: Call, message: Message) -> Bot:
    """Return the bot that sent a message."""
    return call.state.bots.open(message.content.sender)
