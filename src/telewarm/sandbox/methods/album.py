"""Method sendMediaGroup (facts 1.4, 3.2, 4.4)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from telewarm.sandbox.call import Call, clamped
from telewarm.sandbox.chats import Chat, check_delivery, check_kind, check_topic
from telewarm.sandbox.entities import Parsed, check_caption, parse
from telewarm.sandbox.errors import ApiError, bad
from telewarm.sandbox.files import File
from telewarm.sandbox.inputs import MAX_DURATION, MAX_SIDE, Attributes, Input, check_input, find_input, resolve, store
from telewarm.sandbox.mail import Content, Message
from telewarm.sandbox.methods.common import ECHOED, check_reply
from telewarm.sandbox.render import message_of

MAX_ITEMS = 10
NEVER = frozenset({"animation", "voice", "video_note", "sticker"})
ALONE = ("audio", "document")  # never with another kind
KINDS = frozenset({"photo", "video", *ALONE})


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One item of an album."""

    input: Input
    caption: Parsed
    above: bool
    spoiler: bool


async def send_media_group(call: Call) -> object:
    """Send an album."""
    items = [read_item(call, raw) for raw in read_array(call.required("media"))]
    chat = call.state.find_chat_for_post(call.bot, call.text("chat_id"))
    check_group(items)
    items = [check_item(call, chat, item) for item in items]
    with call.state.gate.unsent(call.bot.id, chat.id, len(items)):
        files = [await resolve_item(call, number, item) for number, item in enumerate(items, 1)]
        messages = post_all(call, chat, items, files)
    group = str(call.state.files.new_id() % 90_000_000_000_000_000 + 10_000_000_000_000_000)
    shown = group if len(messages) > 1 else ""
    return [message_of(call.state, call.bot, chat, message, group=shown) for message in messages]


def read_array(text: str) -> list[object]:
    """Decode the array of items."""
    try:
        media = msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise bad("can't parse media JSON object") from None
    if not isinstance(media, list):
        raise bad("expected an Array of InputMedia")
    return media


def read_item(call: Call, raw: object) -> Item:
    """Read an item."""
    if not isinstance(raw, dict):
        raise unreadable("expected an Object")
    fields = {str(name): _text(value) for name, value in raw.items()}
    kind = fields.get("type", "")
    if kind in NEVER:
        raise unreadable(f'type "{kind}" can\'t be used in sendMediaGroup')
    if kind not in KINDS:
        raise unreadable(f'type "{kind}" is unsupported')
    value = fields.get("media", "")
    thumbnail = call.files.get(fields.get("thumbnail", fields.get("thumb", "")).removeprefix("attach://"))
    attributes = Attributes(
        width=clamped(fields.get("width", ""), 0, MAX_SIDE),
        height=clamped(fields.get("height", ""), 0, MAX_SIDE),
        duration=clamped(fields.get("duration", ""), 0, MAX_DURATION),
        title=fields.get("title", ""),
        performer=fields.get("performer", ""),
        thumbnail=thumbnail,
        detect=False,
    )
    return Item(
        input=find_media(call, kind, value, attributes),
        caption=parse(fields.get("caption", ""), fields.get("parse_mode", "")),
        above=fields.get("show_caption_above_media") == "true",
        spoiler=fields.get("has_spoiler") == "true",
    )


def find_media(call: Call, kind: str, value: str, attributes: Attributes) -> Input:
    """Find the file of an item."""
    try:
        return find_input(call, kind, value, "", attributes)
    except ApiError:
        raise unreadable("media not found") from None


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def check_group(items: list[Item]) -> None:
    """Check that the kinds may be together."""
    if not items:
        raise bad("there are no messages to send")
    if len(items) > MAX_ITEMS:
        raise bad("too many messages to send as an album")
    kinds = {item.input.kind for item in items}
    for kind in ALONE:
        if kind in kinds and len(kinds) > 1:
            raise bad(f"{kind} can't be mixed with other media types")
    if len({item.above for item in items}) > 1:
        raise bad("parameter show_caption_above_media must be the same for all messages")


def check_item(call: Call, chat: Chat, item: Item) -> Item:
    """Check an item."""
    given = check_input(call, item.input)
    check_caption(item.caption)
    check_kind(chat, given.kind)
    return Item(input=given, caption=item.caption, above=item.above, spoiler=item.spoiler)


async def resolve_item(call: Call, number: int, item: Item) -> tuple[File, bytes | None]:
    """Resolve the file of an item."""
    try:
        file, kept = await resolve(call, item.input)
    except ApiError as error:
        raise failed(number, error) from None
    fits = {"photo", "video"} if item.input.kind in {"photo", "video"} else {item.input.kind}
    if file.kind not in fits:
        raise failed(number, bad("wrong file identifier/HTTP URL specified"))
    return file, kept


def post_all(call: Call, chat: Chat, items: list[Item], files: list[tuple[File, bytes | None]]) -> list[Message]:
    """Post one by one: a flood in the middle leaves the first ones in the chat."""
    messages: list[Message] = []
    protected = call.flag("protect_content")
    for number, (item, (file, kept)) in enumerate(zip(items, files, strict=True), 1):
        charge_item(call, chat, number)
        flags = (("show_caption_above_media", item.above), ("has_media_spoiler", item.spoiler))
        shown = (*((name, True) for name, is_set in flags if is_set), *_echoed(call))
        content = Content(call.bot.id, file, item.caption.text, item.caption.entities, shown, protected)
        messages.append(call.state.post(call.bot, chat, content))
        store(call, file, kept)
    return messages


def _echoed(call: Call) -> tuple[tuple[str, object], ...]:
    return tuple((shown_as, call.text(name)) for name, shown_as in ECHOED.items() if call.text(name))


def charge_item(call: Call, chat: Chat, number: int) -> None:
    """Count an item against the flood limits."""
    try:
        call.state.charge(call.bot, chat, follows=number > 1)
    except ApiError as error:
        if not call.state.config.floods.album_429_in_400:
            raise
        raise failed(number, error) from None
    check_topic(chat, call.integer("message_thread_id", 0))
    if number == 1:
        check_delivery(chat, call.bot)
        check_reply(call, chat)


def failed(number: int, error: ApiError) -> ApiError:
    """Create the error of an item."""
    inner = error.text[:1].upper() + error.text[1:]
    return bad(f'failed to send message #{number} with the error message "{inner}"')


def unreadable(detail: str) -> ApiError:
    """Create the error of an unreadable array."""
    return bad(f"can't parse InputMedia: {detail}")
