"""Methods forwardMessage(s) and copyMessage(s): a forward returns the forwarding bot's own file id (facts 2.1)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec

from telewarm.sandbox.call import Call
from telewarm.sandbox.chats import Chat, check_delivery, check_kind
from telewarm.sandbox.entities import check_caption, parse
from telewarm.sandbox.errors import bad
from telewarm.sandbox.mail import Content, Message
from telewarm.sandbox.methods.common import deliver, extras, sender_of
from telewarm.sandbox.render import message_of, origin_of

MAX_MESSAGES = 100
PROTECTED = "message has protected content and can't be forwarded"


async def forward_message(call: Call) -> object:
    """Forward a message."""
    chat = call.state.find_chat_for_post(call.bot, call.text("chat_id"))
    source, original = _original(call, "forward")
    if source.protected or original.content.protected:
        raise bad(PROTECTED)
    _check_rights(chat, original)
    message = deliver(call, chat, _own(call, original.content))
    call.state.stats.forwarded(call.bot.id)
    origin = origin_of(source, original, sender_of(call, original))
    return message_of(call.state, call.bot, chat, message, origin=origin)


async def copy_message(call: Call) -> object:
    """Copy a message."""
    caption = parse(call.text("caption"), call.text("parse_mode")) if "caption" in call.params else None
    shown = extras(call)
    chat = call.state.find_chat_for_post(call.bot, call.text("chat_id"))
    _, original = _original(call, "copy")
    _check_rights(chat, original)
    content = replace(_own(call, original.content), extras=shown)
    if caption is not None and content.file is not None:
        check_caption(caption)
        content = replace(content, text=caption.text, entities=caption.entities)
    return {"message_id": deliver(call, chat, content).id}


async def forward_messages(call: Call) -> object:
    """Forward messages."""
    return await _many(call, forwarded=True)


async def copy_messages(call: Call) -> object:
    """Copy messages."""
    return await _many(call, forwarded=False)


async def _many(call: Call, *, forwarded: bool) -> object:
    """Forward or copy messages: missing ones are skipped; one flood check for all."""
    chat = call.state.find_chat_for_post(call.bot, call.text("chat_id"))
    source = call.state.find_chat(call.bot, call.required("from_chat_id"))
    box = call.state.mail.box(source, call.bot.id)
    found = [box.get(source.id, number) for number in message_ids(call, increasing=True)]
    originals = [message for message in found if message is not None]
    if forwarded:
        originals = [message for message in originals if not (source.protected or message.content.protected)]
    if not originals:
        raise bad("messages can't be forwarded")
    call.state.charge(call.bot, chat, len(originals))
    check_delivery(chat, call.bot)
    contents = [_own(call, message.content) for message in originals]
    for _ in originals if forwarded else ():
        call.state.stats.forwarded(call.bot.id)
    if not forwarded and call.flag("remove_caption"):
        contents = [replace(content, text="", entities=()) if content.file else content for content in contents]
    return [{"message_id": call.state.post(call.bot, chat, content).id} for content in contents]


def _original(call: Call, verb: str) -> tuple[Chat, Message]:
    source = call.state.find_chat(call.bot, call.required("from_chat_id"))
    box = call.state.mail.box(source, call.bot.id)
    message = box.get(source.id, call.integer("message_id"))
    if message is None:
        raise bad(f"message to {verb} not found")
    return source, message


def _check_rights(chat: Chat, original: Message) -> None:
    file = original.content.file
    check_kind(chat, "text" if file is None else file.kind)


def _own(call: Call, content: Content) -> Content:
    """Return the content as sent by this bot."""
    protected = call.flag("protect_content")
    if content.sender == call.bot.id and content.protected == protected and not content.extras:
        return content
    return replace(content, sender=call.bot.id, protected=protected, extras=())


def message_ids(call: Call, *, increasing: bool) -> list[int]:
    """Return 1 to 100 ids from a JSON array."""
    try:
        ids = msgspec.json.decode(call.text("message_ids") or "[]", type=list[int], strict=False)
    except msgspec.MsgspecError:
        raise bad("can't parse message identifiers JSON object") from None
    if not ids:
        raise bad("message identifiers are not specified")
    if len(ids) > MAX_MESSAGES:
        raise bad("too many message identifiers specified")
    if increasing and any(later <= earlier for earlier, later in pairwise(ids)):
        raise bad("message identifiers must be in a strictly increasing order")
    return ids
