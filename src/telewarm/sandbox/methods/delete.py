"""Methods deleteMessage and deleteMessages: never after 48 hours (facts 6)."""

from __future__ import annotations

from telewarm.sandbox.call import Call
from telewarm.sandbox.chats import Chat
from telewarm.sandbox.errors import bad
from telewarm.sandbox.mail import Message
from telewarm.sandbox.methods.forward import message_ids

MAX_AGE_SECONDS = 48 * 3600  # seconds


async def delete_message(call: Call) -> object:
    """Delete a message."""
    if not call.text("chat_id"):
        raise bad("chat identifier is not specified")
    if not call.integer("message_id"):
        raise bad("message identifier is not specified")
    chat = call.state.find_chat(call.bot, call.text("chat_id"))
    box = call.state.mail.box(chat, call.bot.id)
    message = box.get(chat.id, call.integer("message_id"))
    if message is None:
        raise bad("message to delete not found")
    _check(call, chat, message)
    box.remove(message.id)
    return True


async def delete_messages(call: Call) -> object:
    """Delete messages: missing ones are skipped; one that may not be deleted stops all."""
    chat = call.state.find_chat(call.bot, call.text("chat_id"))
    box = call.state.mail.box(chat, call.bot.id)
    found = [box.get(chat.id, number) for number in message_ids(call, increasing=False)]
    messages = [message for message in found if message is not None]
    for message in messages:
        _check(call, chat, message)
    for message in messages:
        box.remove(message.id)
    return True


def _check(call: Call, chat: Chat, message: Message) -> None:
    own = message.content.sender == call.bot.id
    allowed = chat.can_post if own else chat.can_delete
    if not allowed or call.state.clock.now() - message.date > MAX_AGE_SECONDS:
        everyone = " for everyone" if chat.type in {"private", "group"} else ""
        raise bad(f"message can't be deleted{everyone}")
