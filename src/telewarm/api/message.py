"""A message set as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from telewarm.api.answers import ApiError
from telewarm.api.numbers import LARGEST, AnyId, Flag
from telewarm.errors import UsageError
from telewarm.model import MediaId, MessageSet, Part

LONGEST_TEXT = 4096  # characters that people see
LONGEST_RAW = 16_384  # with the marks of a parse mode
Entities = list[dict[str, Any]]
Formatted = Annotated[str, Field(max_length=LONGEST_RAW)]
MODE = "How it is formatted: `HTML` or `MarkdownV2`"
ENTITIES = "In place of a parse mode: Telegram's [MessageEntity](https://core.telegram.org/bots/api#messageentity) list"
BOLD = [{"type": "bold", "offset": 0, "length": 3}]


class MediaPart(BaseModel):
    """A media item with a caption of its own."""

    id: Annotated[AnyId, Field(description="Of the bot's library", examples=[17])]
    caption: Annotated[Formatted | None, Field(description="At most 4096 characters", examples=["New!"])] = None
    parse_mode: Annotated[str | None, Field(description=MODE, examples=["HTML"])] = None
    entities: Annotated[Entities | None, Field(description=ENTITIES, examples=[BOLD])] = None
    has_spoiler: Annotated[Flag, Field(description="Blurred until it is tapped", examples=[True])] = False


def _as_part(said: object) -> object:
    """An id alone is a part without a caption."""
    if isinstance(said, float) and said.is_integer():  # 17.0 is 17, to JSON
        said = int(said)
    if type(said) is not int:
        return said
    if not 1 <= said <= LARGEST:
        raise ValueError(f"must be the id of a media item, from 1 to {LARGEST}")
    return {"id": said}


AnyPart = Annotated[MediaPart, BeforeValidator(_as_part, json_schema_input_type=AnyId | MediaPart)]


class NewMessage(BaseModel):
    """Up to ten media, then text."""

    media: Annotated[
        list[AnyPart] | None,
        Field(
            max_length=10,
            description="Media of the bot's library: ids, or objects with a caption each",
            examples=[[17, {"id": 18, "caption": "New!"}]],
        ),
    ] = None
    text: Annotated[
        Formatted | None,
        Field(description="A message of its own, after the media; at most 4096 characters", examples=["It is here."]),
    ] = None
    parse_mode: Annotated[str | None, Field(description=f"{MODE}; of `text` and of `caption`", examples=["HTML"])] = (
        None
    )
    entities: Annotated[Entities | None, Field(description=f"{ENTITIES}; of `text`", examples=[BOLD])] = None
    caption: Annotated[
        Formatted | None,
        Field(description="Goes with the first of `media`; at most 4096 characters", examples=["New!"]),
    ] = None
    caption_entities: Annotated[Entities | None, Field(description=f"{ENTITIES}; of `caption`", examples=[BOLD])] = None
    album: Annotated[
        Flag, Field(description="Show media together that Telegram can; else a message each", examples=[True])
    ] = False
    reply_markup: Annotated[
        dict[str, Any] | None,
        Field(
            description="Buttons, under the last message, as Telegram's own JSON",
            examples=[{"inline_keyboard": [[{"text": "Open", "url": "https://example.org"}]]}],
        ),
    ] = None
    reply_to_message_id: Annotated[
        AnyId | None, Field(description="The first message answers this one of the same chat", examples=[42])
    ] = None
    reply_parameters: Annotated[
        dict[str, Any] | None,
        Field(description="The same, as Telegram's own JSON", examples=[{"message_id": 42, "quote": "when?"}]),
    ] = None
    message_thread_id: Annotated[AnyId | None, Field(description="The topic of a forum", examples=[7])] = None
    silent: Annotated[Flag, Field(description="The recipient's device makes no sound", examples=[True])] = False
    protect_content: Annotated[Flag, Field(description="No forwarding and no saving", examples=[True])] = False
    show_caption_above_media: Annotated[Flag, Field(description="Captions above, not below", examples=[True])] = False


def message_of(body: NewMessage) -> MessageSet:
    """Raises ApiError and UsageError for fields that do not fit, alone or together."""
    _fits("text", body.text, body.parse_mode)
    _fits("caption", body.caption, body.parse_mode)
    return MessageSet(
        media=_media(body),
        text=body.text,
        parse_mode=body.parse_mode if body.entities is None else None,
        entities=body.entities,
        album=body.album,
        reply_markup=body.reply_markup,
        reply_parameters=_reply(body),
        message_thread_id=body.message_thread_id,
        disable_notification=body.silent,
        protect_content=body.protect_content,
        show_caption_above_media=body.show_caption_above_media,
    )


def _media(body: NewMessage) -> tuple[Part, ...]:
    parts = tuple([_part(place, part) for place, part in enumerate(body.media or ())])
    if not body.caption:
        return parts
    if not parts:
        raise UsageError("there is no media item to go with the caption: give media, or text in place of the caption")
    first = parts[0]
    if first.caption:
        raise UsageError("caption is for the first of media, and that has one of its own: give one of the two")
    captioned = Part(
        media_id=first.media_id,
        caption=body.caption,
        parse_mode=body.parse_mode if body.caption_entities is None else None,
        entities=body.caption_entities,
        has_spoiler=first.has_spoiler,
    )
    return (captioned, *parts[1:])


def _part(place: int, part: MediaPart) -> Part:
    if part.caption is None:
        return Part(media_id=MediaId(part.id), has_spoiler=part.has_spoiler)
    _fits(f"media.{place}.caption", part.caption, part.parse_mode)
    return Part(
        media_id=MediaId(part.id),
        caption=part.caption,
        parse_mode=part.parse_mode,
        entities=part.entities,
        has_spoiler=part.has_spoiler,
    )


def _reply(body: NewMessage) -> dict[str, Any] | None:
    if body.reply_to_message_id is None:
        return body.reply_parameters
    if body.reply_parameters is not None:
        raise UsageError("reply_to_message_id and reply_parameters say the same: give one of the two")
    return {"message_id": body.reply_to_message_id}


def _fits(field: str, text: str | None, parse_mode: str | None) -> None:
    """The marks of a parse mode do not count, and Telegram does the counting then."""
    if text is not None and parse_mode is None and len(text) > LONGEST_TEXT:
        raise ApiError(422, "BAD_REQUEST", f"{field}: has at most {LONGEST_TEXT} characters, and this has {len(text)}")
