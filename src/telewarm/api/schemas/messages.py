"""Schema of a message set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from telewarm.api.error_responses import HttpError
from telewarm.api.schemas.bodies import RequestBody
from telewarm.api.schemas.types import MAX_BIGINT, RowIdParam, StrictBool
from telewarm.errors import UsageError
from telewarm.models import MediaId, MessageSet, Part
from telewarm.sending.markup import MAX_CAPTION_CHARACTERS, MAX_TEXT_CHARACTERS, PLAIN_MODES, check_text
from telewarm.sending.messages import check_plain

MAX_RAW_CHARACTERS = 16_384  # with the marks of a parse mode
Entities = list[dict[str, Any]]
FormattedText = Annotated[str, Field(max_length=MAX_RAW_CHARACTERS)]
PARSE_MODE_DESCRIPTION = "How it is formatted: `HTML` or `MarkdownV2`"
ENTITIES_DESCRIPTION = (
    "In place of a parse mode: Telegram's [MessageEntity](https://core.telegram.org/bots/api#messageentity) list"
)
Extra = dict[str, Any]
EXTRA_DESCRIPTION = "Other parameters of the Bot API, passed on as they are; those that have a field here are refused"
LINK_PREVIEW_DESCRIPTION = (
    "Of the text's first link: `off` (or false), `above`, `large`, `small`, several with commas, or Telegram's own "
    "[LinkPreviewOptions](https://core.telegram.org/bots/api#linkpreviewoptions)"
)
EXAMPLE_ENTITIES = [{"type": "bold", "offset": 0, "length": 3}]


class MediaPartIn(RequestBody):
    """A media item with a caption of its own."""

    aliases: ClassVar[Mapping[str, str]] = {
        "media_id": "id",
        "caption_entities": "entities",
        "spoiler": "has_spoiler",
    }

    id: Annotated[RowIdParam, Field(description="Of the bot's library", examples=[17])]
    caption: Annotated[FormattedText | None, Field(description="At most 1024 characters", examples=["New!"])] = None
    parse_mode: Annotated[
        str | None,
        Field(
            description=f"{PARSE_MODE_DESCRIPTION}; if not given, the set's, and with `none` not at all",
            examples=["HTML"],
        ),
    ] = None
    entities: Annotated[Entities | None, Field(description=ENTITIES_DESCRIPTION, examples=[EXAMPLE_ENTITIES])] = None
    has_spoiler: Annotated[StrictBool, Field(description="Blurred until it is tapped", examples=[True])] = False
    as_file: Annotated[StrictBool, Field(description="Send it as a document, whatever its kind", examples=[True])] = (
        False
    )
    extra: Annotated[Extra | None, Field(description=EXTRA_DESCRIPTION, examples=[{"start_timestamp": 5}])] = None


def _part_from_id(value: object) -> object:
    """Accept an id alone as a part without a caption."""
    if isinstance(value, float) and value.is_integer():  # 17.0 is 17, to JSON
        value = int(value)
    if type(value) is not int:
        return value
    if not 1 <= value <= MAX_BIGINT:
        raise ValueError(f"must be the id of a media item, from 1 to {MAX_BIGINT}")
    return {"id": value}


MediaPartOrId = Annotated[MediaPartIn, BeforeValidator(_part_from_id, json_schema_input_type=RowIdParam | MediaPartIn)]


class MessageIn(RequestBody):
    """A message set: up to ten media, then text.

    Telegram's own names of fields are accepted too: `disable_notification`, `has_spoiler`, `link_preview_options`,
    `message_effect_id`.
    """

    aliases: ClassVar[Mapping[str, str]] = {
        "disable_notification": "silent",
        "reply_to": "reply_to_message_id",
        "buttons": "reply_markup",
        "spoiler": "has_spoiler",
        "link_preview_options": "link_preview",
        "message_effect_id": "effect",
    }

    media: Annotated[
        list[MediaPartOrId] | None,
        Field(
            max_length=10,
            description="Media of the bot's library: ids, or objects with a caption each",
            examples=[[17, {"id": 18, "caption": "New!"}]],
        ),
    ] = None
    text: Annotated[
        FormattedText | None,
        Field(description="A message of its own, after the media; at most 4096 characters", examples=["It is here."]),
    ] = None
    parse_mode: Annotated[
        str | None, Field(description=f"{PARSE_MODE_DESCRIPTION}; of `text` and of all captions", examples=["HTML"])
    ] = None
    entities: Annotated[
        Entities | None, Field(description=f"{ENTITIES_DESCRIPTION}; of `text`", examples=[EXAMPLE_ENTITIES])
    ] = None
    caption: Annotated[
        FormattedText | None,
        Field(description="Goes with the first of `media`; at most 1024 characters", examples=["New!"]),
    ] = None
    caption_entities: Annotated[
        Entities | None, Field(description=f"{ENTITIES_DESCRIPTION}; of `caption`", examples=[EXAMPLE_ENTITIES])
    ] = None
    album: Annotated[
        StrictBool, Field(description="Show media together that Telegram can; else a message each", examples=[True])
    ] = False
    reply_markup: Annotated[
        dict[str, Any] | None,
        Field(
            description="Buttons, under the last message, as Telegram's own JSON",
            examples=[{"inline_keyboard": [[{"text": "Open", "url": "https://example.org"}]]}],
        ),
    ] = None
    reply_to_message_id: Annotated[
        RowIdParam | None, Field(description="The first message answers this one of the same chat", examples=[42])
    ] = None
    reply_parameters: Annotated[
        dict[str, Any] | None,
        Field(description="The same, as Telegram's own JSON", examples=[{"message_id": 42, "quote": "when?"}]),
    ] = None
    message_thread_id: Annotated[RowIdParam | None, Field(description="The topic of a forum", examples=[7])] = None
    silent: Annotated[StrictBool, Field(description="The recipient's device makes no sound", examples=[True])] = False
    protect_content: Annotated[StrictBool, Field(description="No forwarding and no saving", examples=[True])] = False
    show_caption_above_media: Annotated[StrictBool, Field(description="Captions above, not below", examples=[True])] = (
        False
    )
    allow_sending_without_reply: Annotated[
        StrictBool, Field(description="Send it also when the message that it answers is gone", examples=[True])
    ] = False
    has_spoiler: Annotated[
        StrictBool, Field(description="All media blurred until they are tapped", examples=[True])
    ] = False
    as_file: Annotated[StrictBool, Field(description="All media as documents", examples=[True])] = False
    order: Annotated[
        Literal["kind", "as_given"],
        Field(description="Of the media: audio, video, photo, the rest; or as in `media`", examples=["as_given"]),
    ] = "kind"
    link_preview: Annotated[
        StrictBool | str | dict[str, Any] | None, Field(description=LINK_PREVIEW_DESCRIPTION, examples=["off"])
    ] = None
    effect: Annotated[
        str | None,
        Field(
            max_length=64,
            description="Telegram's id of an effect, of the first message; private chats alone",
            examples=["5046509860389126442"],
        ),
    ] = None
    extra: Annotated[
        Extra | None,
        Field(description=f"{EXTRA_DESCRIPTION}; for every message", examples=[{"allow_paid_broadcast": True}]),
    ] = None


def message_of(body: MessageIn) -> MessageSet:
    """Return the message set. Raises HttpError and UsageError for invalid fields or combinations."""
    _check_text("text", body.text, body.parse_mode, max_characters=MAX_TEXT_CHARACTERS)
    message = MessageSet(
        media=_media_parts(body),
        text=body.text,
        parse_mode=body.parse_mode if body.entities is None else None,
        entities=body.entities,
        album=body.album,
        reply_markup=body.reply_markup,
        reply_parameters=_reply_parameters(body),
        message_thread_id=body.message_thread_id,
        disable_notification=body.silent,
        protect_content=body.protect_content,
        show_caption_above_media=body.show_caption_above_media,
        has_spoiler=body.has_spoiler,
        as_file=body.as_file,
        as_given=body.order == "as_given",
        link_preview=body.link_preview,
        effect=body.effect,
        allow_sending_without_reply=body.allow_sending_without_reply,
        extra=body.extra,
    )
    check_plain(message)  # before it is hashed, for an idempotency key
    return message


def _media_parts(body: MessageIn) -> tuple[Part, ...]:
    parts = tuple([_media_part(f"media.{place}.caption", part, body) for place, part in enumerate(body.media or ())])
    if not body.caption:
        return parts
    if not parts:
        raise UsageError("there is no media item to go with the caption: give media, or text in place of the caption")
    assert body.media is not None  # noqa: S101 - else there are no parts
    if body.media[0].caption:
        raise UsageError("caption is for the first of media, and that has one of its own: give one of the two")
    captioned = body.media[0].model_copy(update={"caption": body.caption, "entities": body.caption_entities})
    return (_media_part("caption", captioned, body), *parts[1:])


def _media_part(field: str, part: MediaPartIn, body: MessageIn) -> Part:
    mode = part.parse_mode
    if mode is None and part.entities is None:
        mode = body.parse_mode
    elif mode is not None and mode.lower() in PLAIN_MODES:
        mode = ""
    _check_text(field, part.caption, mode, max_characters=MAX_CAPTION_CHARACTERS)
    return Part(
        media_id=MediaId(part.id),
        caption=part.caption,
        parse_mode=mode if part.caption else None,
        entities=part.entities if part.caption else None,
        has_spoiler=part.has_spoiler,
        as_file=part.as_file,
        extra=part.extra,
    )


def _reply_parameters(body: MessageIn) -> dict[str, Any] | None:
    if body.reply_to_message_id is None:
        return body.reply_parameters
    if body.reply_parameters is not None:
        raise UsageError("reply_to_message_id and reply_parameters say the same: give one of the two")
    return {"message_id": body.reply_to_message_id}


def _check_text(field: str, text: str | None, parse_mode: str | None, *, max_characters: int) -> None:
    if text:
        try:
            check_text(field, text, parse_mode, max_characters=max_characters)
        except UsageError as error:
            raise HttpError(422, "BAD_REQUEST", f"{field}: {error.message.removeprefix(field).strip()}") from None
