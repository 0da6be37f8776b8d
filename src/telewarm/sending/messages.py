"""Plan of a message set: the calls that send it, in order. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeAlias

import msgspec

from telewarm.errors import UsageError
from telewarm.models import Kind, MediaId, MessageSet, Part
from telewarm.sending.extra_options import check_extra, preview_options
from telewarm.sending.markup import (
    MAX_CAPTION_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    PLAIN_MODES,
    check_buttons,
    check_format,
    check_text,
)
from telewarm.telegram.values import DEFAULT_OPTIONS, SendOptions

NUL_PATTERN = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # as JSON encodes it
MAX_MEDIA = 10
KIND_ORDER = {Kind.AUDIO: 0, Kind.VIDEO: 1, Kind.PHOTO: 2}
LAST_POSITION = len(KIND_ORDER)  # other kinds, followed by the text
ALBUM_GROUP_BY_KIND = {Kind.AUDIO: "audios", Kind.VIDEO: "pictures", Kind.PHOTO: "pictures", Kind.DOCUMENT: "documents"}
ALBUM_ORDER = {**KIND_ORDER, Kind.PHOTO: 1, Kind.DOCUMENT: 2}  # in albums no other kind may stand between two that mix
KINDS_WITHOUT_CAPTION = frozenset({Kind.STICKER, Kind.VIDEO_NOTE})  # their calls take no caption


class SingleStep(msgspec.Struct, frozen=True, kw_only=True):
    """One media item in a message of its own."""

    media_id: MediaId
    caption: str | None = None
    options: SendOptions = DEFAULT_OPTIONS


@dataclass(frozen=True, kw_only=True, slots=True)
class AlbumStep:
    """2 to 10 media that Telegram shows together. `options`: for the whole album, so without buttons."""

    items: tuple[Part, ...]
    options: SendOptions = DEFAULT_OPTIONS


@dataclass(frozen=True, kw_only=True, slots=True)
class TextStep:
    """A text message."""

    text: str
    options: SendOptions = DEFAULT_OPTIONS


Step: TypeAlias = SingleStep | AlbumStep | TextStep  # one call each, unless something fails


def _as_text(value: object) -> str:
    """Convert the str subclasses of `html()` and `markdown()`. Raises TypeError for other types."""
    if isinstance(value, str):
        return str(value)
    raise TypeError


def check_plain(message: MessageSet) -> None:
    """Raise UsageError for texts, buttons, entities or other values that are not JSON, or that no database stores."""
    if _is_wordless(message):
        return
    try:
        encoded = msgspec.json.encode(message, enc_hook=_as_text)
    except UnicodeError:
        raise UsageError("the message has half of a character in it (a lone surrogate): leave it out") from None
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise UsageError("the message is not plain JSON; buttons and entities hold texts and numbers alone") from None
    if rb"\u0000" in encoded and NUL_PATTERN.search(encoded):  # the substring test is 100 times as fast
        raise UsageError("the message has the character U+0000 in it, which Telegram does not know; leave it out")


def _is_wordless(message: MessageSet) -> bool:
    """Return whether the set has media and flags only, as most have: a third of the cost of encoding it."""
    if message.text is not None or message.reply_markup is not None or message.extra is not None:
        return False
    if message.reply_parameters is not None or message.link_preview is not None or message.effect is not None:
        return False
    if message.parse_mode is not None or message.entities is not None:
        return False
    for part in message.media:
        if part.caption is not None or part.parse_mode is not None or part.entities is not None:
            return False
        if part.extra is not None:
            return False
    return True


def check(message: MessageSet) -> None:
    """Raise UsageError for a message set that no bot could send, whatever the kinds of its media."""
    check_plain(message)
    media = message.media
    if not media and not message.text:
        raise UsageError("there is nothing to send: give media, text, or both")
    if len(media) > MAX_MEDIA:
        raise UsageError(f"at most {MAX_MEDIA} media go in one set; this one has {len(media)}")
    if message.text:
        check_format("the text", message.parse_mode, message.entities)
        check_text("the text", message.text, message.parse_mode, max_characters=MAX_TEXT_CHARACTERS)
    elif message.parse_mode is not None:
        check_format("the set", message.parse_mode, None)
    for part in media:
        if part.caption or part.parse_mode or part.entities is not None:
            _check_caption(part, parse_mode_of(part, message))
        if part.extra is not None:
            check_extra(f"extra of media item {part.media_id}", part.extra)
    _check_options(message)


def parse_mode_of(part: Part, message: MessageSet) -> str | None:
    """Return the parse mode of a part's caption."""
    if part.parse_mode is None:
        return message.parse_mode if part.entities is None else None
    return None if part.parse_mode.lower() in PLAIN_MODES else part.parse_mode


def _check_caption(part: Part, parse_mode: str | None) -> None:
    what = f"the caption of media item {part.media_id}"
    check_format(what, parse_mode, part.entities)
    check_text(what, part.caption or "", parse_mode, max_characters=MAX_CAPTION_CHARACTERS)


def _check_options(message: MessageSet) -> None:
    if message.reply_markup is not None:
        check_buttons(message.reply_markup)
    if message.link_preview is not None:
        preview_options(message.link_preview)
    if message.extra is not None:
        check_extra("extra", message.extra)
    if message.allow_sending_without_reply and message.reply_parameters is None:
        raise UsageError("allow_sending_without_reply goes with a reply: say which message it answers")


def plan(message: MessageSet, kinds: Mapping[MediaId, Kind]) -> tuple[Step, ...]:
    """Return the steps: audio, video, photo, other kinds, then text.

    `kinds`: the kind of every media item as it is sent. The reply is part of the first step, the buttons of the last.
    Raises UsageError, as `check` does.
    """
    check(message)
    shared = _shared(message)
    if len(message.media) == 1 and not message.text:
        return (
            _single(_complete(message.media[0], message), kinds, _with_ends(shared, message, first=True, last=True)),
        )
    groups = _groups(message, kinds)
    steps: list[Step] = []
    for place, group in enumerate(groups):
        last = place == len(groups) - 1 and not message.text
        options = _with_ends(shared, message, first=place == 0, last=last)
        steps.append(_step(group, kinds, options))
    if message.text:
        options = _with_ends(shared, message, first=not groups, last=True)
        if message.link_preview is not None:
            options = replace(options, link_preview_options=preview_options(message.link_preview))
        steps.append(TextStep(text=message.text, options=_formatted(options, message.parse_mode, message.entities)))
    return tuple(steps)


def one_by_one(album: AlbumStep, items: Sequence[Part] | None = None) -> list[SingleStep]:
    """Return the album's items, or only `items`, as messages of their own; the reply stays with the first."""
    plain = replace(album.options, reply_parameters=None, message_effect_id=None)
    return [
        SingleStep(
            media_id=part.media_id,
            caption=part.caption,
            options=_options_of_part(part, plain if place else album.options),
        )
        for place, part in enumerate(album.items if items is None else items)
    ]


def can_be_one_album(kinds: Sequence[Kind]) -> bool:
    """Return whether Telegram shows media of these kinds as one album."""
    groups = {ALBUM_GROUP_BY_KIND.get(kind) for kind in kinds}
    return len(kinds) > 1 and len(groups) == 1 and None not in groups


def _shared(message: MessageSet) -> SendOptions:
    """Return the options that every message of the set has."""
    if not (
        message.disable_notification
        or message.protect_content
        or message.show_caption_above_media
        or message.message_thread_id is not None
        or message.extra
    ):
        return DEFAULT_OPTIONS
    return SendOptions(
        message_thread_id=message.message_thread_id,
        disable_notification=message.disable_notification,
        protect_content=message.protect_content,
        show_caption_above_media=message.show_caption_above_media,
        extra=_without_none(message.extra),
    )


def _with_ends(options: SendOptions, message: MessageSet, *, first: bool, last: bool) -> SendOptions:
    reply = message.reply_parameters if first else None
    effect = message.effect if first else None
    markup = message.reply_markup if last else None
    if reply is None and markup is None and effect is None:
        return options
    if reply is not None and message.allow_sending_without_reply:
        reply = {**reply, "allow_sending_without_reply": True}
    return replace(options, reply_parameters=reply, reply_markup=markup, message_effect_id=effect)


def _without_none(extra: Mapping[str, object] | None) -> Mapping[str, object] | None:
    return {name: value for name, value in extra.items() if value is not None} or None if extra else None


def _groups(message: MessageSet, kinds: Mapping[MediaId, Kind]) -> list[list[Part]]:
    """Group the media in order; each group is one message or one album."""
    parts = [_complete(part, message) for part in message.media]
    if not message.as_given:
        parts.sort(key=lambda part: KIND_ORDER.get(kinds[part.media_id], LAST_POSITION))
    if not message.album:
        return [[part] for part in parts]
    if not message.as_given:
        parts.sort(key=lambda part: ALBUM_ORDER.get(kinds[part.media_id], LAST_POSITION))
    groups: list[list[Part]] = []
    for group, found in groupby(parts, key=lambda part: ALBUM_GROUP_BY_KIND.get(kinds[part.media_id])):
        if group is None:
            groups += [[part] for part in found]
        else:
            groups.append(list(found))
    return groups


def _complete(part: Part, message: MessageSet) -> Part:
    """Fill in the message set's defaults for a part."""
    mode = parse_mode_of(part, message) if part.caption else None
    spoiler = part.has_spoiler or message.has_spoiler
    if (mode, spoiler) == (part.parse_mode, part.has_spoiler):
        return part
    return msgspec.structs.replace(part, parse_mode=mode, has_spoiler=spoiler)


def _step(group: list[Part], kinds: Mapping[MediaId, Kind], options: SendOptions) -> Step:
    if len(group) == 1:
        return _single(group[0], kinds, options)
    if options.reply_markup is not None:
        raise UsageError("an album carries no buttons (reply_markup), and here one is the last message: add a text")
    return AlbumStep(items=tuple(group), options=options)


def _single(part: Part, kinds: Mapping[MediaId, Kind], options: SendOptions) -> SingleStep:
    kind = kinds[part.media_id]
    if part.caption and kind in KINDS_WITHOUT_CAPTION:
        name = kind.value.replace("_", " ")
        raise UsageError(f"media item {part.media_id} is a {name}, which has no caption: send a text instead")
    return SingleStep(media_id=part.media_id, caption=part.caption, options=_options_of_part(part, options))


def _options_of_part(part: Part, options: SendOptions) -> SendOptions:
    if part.has_spoiler:
        options = replace(options, has_spoiler=True)
    if part.extra:
        options = replace(options, extra=_without_none({**(options.extra or {}), **part.extra}))
    return _formatted(options, part.parse_mode, part.entities)


def _formatted(
    options: SendOptions, parse_mode: str | None, entities: Sequence[Mapping[str, object]] | None
) -> SendOptions:
    if parse_mode is None and entities is None:
        return options
    return replace(options, parse_mode=parse_mode, entities=entities)
