"""The message of one recipient, as callers say it."""

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

    `parse_mode` None: as the set's; an empty one: the caption is not formatted.
    """

    media_id: MediaId
    caption: str | None = None
    parse_mode: str | None = None
    entities: Sequence[Mapping[str, object]] | None = None
    has_spoiler: bool = False
    as_file: bool = False  # send it as a document, whatever its kind
    extra: Mapping[str, object] | None = None  # other parameters of the Bot API, such as `cover`

    if TYPE_CHECKING:  # what may be given: `__post_init__` makes our own types of it

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
        """Raises UsageError for what is none of the types that may be given."""
        if type(self.media_id) is not int or self.media_id < 1:
            _set(self, "media_id", MediaId(coercion.media_id("media_id", self.media_id)))
        _check_texts(self, ("caption", "parse_mode"))
        _check_flags(self, PART_FLAGS)
        if self.entities is not None:
            _set(self, "entities", coercion.mappings("entities", self.entities))
        if self.extra is not None:
            _set(self, "extra", coercion.mapping("extra", self.extra))


class MessageSet(msgspec.Struct, frozen=True, kw_only=True):
    """What one recipient gets: up to ten media, then text. The mappings are Telegram's own JSON, passed through.

    The reply and the effect go with the first message of the set, the buttons (`reply_markup`) with the last, the link
    preview with the text. `parse_mode` formats the text and the captions that have none of their own. `extra`: other
    parameters of the Bot API, for every message of the set.
    """

    media: Sequence[Part] = ()
    text: str | None = None
    parse_mode: str | None = None
    entities: Sequence[Mapping[str, object]] | None = None  # of the text
    album: bool = False  # group what may be grouped; else every item is a message of its own
    reply_markup: Mapping[str, object] | None = None
    reply_parameters: Mapping[str, object] | None = None
    message_thread_id: int | None = None
    disable_notification: bool = False
    protect_content: bool = False
    show_caption_above_media: bool = False
    has_spoiler: bool = False  # on all media
    as_file: bool = False  # all media as documents
    as_given: bool = False  # the media in their order here; else audio, video, photo, the rest
    link_preview: Mapping[str, object] | str | bool | None = None  # off, above, large, small, or Telegram's own JSON
    effect: str | None = None  # Telegram's message_effect_id; private chats alone have effects
    allow_sending_without_reply: bool = False
    extra: Mapping[str, object] | None = None

    if TYPE_CHECKING:  # what may be given: `__post_init__` makes our own types of it

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
        """Raises UsageError for what is none of the types that may be given."""
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
