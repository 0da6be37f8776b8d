"""Message for one recipient, as callers give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import force_setattr as _set

from telewarm import coercion
from telewarm.errors import UsageError
from telewarm.ids import MediaId

if TYPE_CHECKING:
    from telewarm.models import MediaItem

PART_FLAGS = ("has_spoiler", "as_file")
FLAGS = (
    *("album", "disable_notification", "protect_content", "show_caption_above_media", "has_spoiler", "as_file"),
    *("as_given", "allow_sending_without_reply"),
)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One media item of a message set, with its own caption. `entities`: of the caption, Telegram's own JSON.

    `parse_mode` None: the message set's; empty: the caption is not formatted.
    """

    media_id: MediaId
    caption: str | None = None
    parse_mode: str | None = None
    entities: Sequence[Mapping[str, object]] | None = None
    has_spoiler: bool = False
    as_file: bool = False  # send as a document, whatever the kind
    extra: Mapping[str, object] | None = None  # other Bot API parameters, such as `cover`

    if TYPE_CHECKING:  # the accepted types: `__post_init__` converts them

        def __init__(
            self,
            *,
            media_id: MediaItem | int,
            caption: str | None = None,
            parse_mode: str | None = None,
            entities: Sequence[object] | None = None,
            has_spoiler: bool = False,
            as_file: bool = False,
            extra: object = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Convert the accepted types. Raises UsageError for others."""
        if type(self.media_id) is not int or self.media_id < 1:
            _set(self, "media_id", MediaId(coercion.media_id("media_id", self.media_id)))
        _check_texts(self, ("caption", "parse_mode"))
        _check_flags(self, PART_FLAGS)
        if self.entities is not None:
            _set(self, "entities", coercion.mappings("entities", self.entities))
        if self.extra is not None:
            _set(self, "extra", coercion.mapping("extra", self.extra))


class MessageSet(msgspec.Struct, frozen=True, kw_only=True):
    """Message for one recipient: up to ten media, then text. The mappings are Telegram's own JSON, passed through.

    The reply and the effect are part of the first message of the set, the buttons (`reply_markup`) of the last, the
    link preview of the text. `parse_mode` applies to the text and to captions without their own. `extra`: other
    parameters of the Bot API, for every message of the set.
    """

    media: Sequence[Part] = ()
    text: str | None = None
    parse_mode: str | None = None
    entities: Sequence[Mapping[str, object]] | None = None  # of the text
    album: bool = False  # group what Telegram can group; else one message for each item
    reply_markup: Mapping[str, object] | None = None
    reply_parameters: Mapping[str, object] | None = None
    message_thread_id: int | None = None
    disable_notification: bool = False
    protect_content: bool = False
    show_caption_above_media: bool = False
    has_spoiler: bool = False  # of all media
    as_file: bool = False  # all media as documents
    as_given: bool = False  # keep the order of the media; else audio, video, photo, other kinds
    link_preview: Mapping[str, object] | str | bool | None = None  # off, above, large, small, or Telegram's own JSON
    effect: str | None = None  # Telegram's message_effect_id; for private chats only
    allow_sending_without_reply: bool = False
    extra: Mapping[str, object] | None = None

    if TYPE_CHECKING:  # the accepted types: `__post_init__` converts them

        def __init__(  # noqa: PLR0913 - the fields
            self,
            *,
            media: Sequence[Part | MediaItem | int] = (),
            text: str | None = None,
            parse_mode: str | None = None,
            entities: Sequence[object] | None = None,
            album: bool = False,
            reply_markup: object = None,
            reply_parameters: object = None,
            message_thread_id: int | None = None,
            disable_notification: bool = False,
            protect_content: bool = False,
            show_caption_above_media: bool = False,
            has_spoiler: bool = False,
            as_file: bool = False,
            as_given: bool = False,
            link_preview: object = None,
            effect: str | None = None,
            allow_sending_without_reply: bool = False,
            extra: object = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Convert the accepted types. Raises UsageError for others."""
        media: object = self.media
        if not isinstance(media, list | tuple):
            raise UsageError(f"media must be a list of media items, not {coercion.describe_value(media)}")
        if media and any(type(part) is not Part for part in media):
            _set(self, "media", tuple([_part(place, part) for place, part in enumerate(media)]))
        _check_texts(self, ("text", "parse_mode", "effect"))
        _check_flags(self, FLAGS)
        if self.message_thread_id is not None:
            coercion.integer("message_thread_id", self.message_thread_id)
        for name in ("reply_markup", "reply_parameters", "extra"):
            if (given := getattr(self, name)) is not None:
                _set(self, name, coercion.mapping(name, given))
        if self.entities is not None:
            _set(self, "entities", coercion.mappings("entities", self.entities))
        if self.link_preview is not None:
            _set(self, "link_preview", coercion.preview("link_preview", self.link_preview))


def _check_texts(said: Part | MessageSet, names: tuple[str, ...]) -> None:
    for name in names:
        given = getattr(said, name)
        if given is not None and type(given) is not str:
            _set(said, name, coercion.text(name, given))


def _check_flags(said: Part | MessageSet, names: tuple[str, ...]) -> None:
    for name in names:
        if type(given := getattr(said, name)) is not bool:
            coercion.flag(name, given)


def _part(place: int, given: object) -> Part:
    return given if isinstance(given, Part) else Part(media_id=coercion.media_id(f"media[{place}]", given))
