"""Method sendMessage."""

from __future__ import annotations

from telewarm.sandbox.call import Call
from telewarm.sandbox.chats import check_kind
from telewarm.sandbox.entities import MAX_TEXT, parse
from telewarm.sandbox.errors import bad
from telewarm.sandbox.mail import Content
from telewarm.sandbox.methods.common import deliver, extras
from telewarm.sandbox.render import message_of


async def send_message(call: Call) -> object:
    """Send a text."""
    parsed = parse(call.text("text"), call.text("parse_mode"))
    if not parsed.text:
        raise bad("message text is empty")
    shown = extras(call)
    chat = call.state.find_chat_for_post(call.bot, call.text("chat_id"))
    if len(parsed.text) > MAX_TEXT:
        raise bad("message is too long")
    check_kind(chat, "text")
    protected = call.flag("protect_content")
    content = Content(call.bot.id, None, parsed.text, parsed.entities, shown, protected)
    with call.state.gate.unsent(call.bot.id, chat.id, 1):
        message = deliver(call, chat, content)
    return message_of(call.state, call.bot, chat, message)
