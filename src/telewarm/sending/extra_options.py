"""Options of a message set beyond its content: link previews, replies, other Bot API parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from telewarm.errors import UsageError

Preview: TypeAlias = Mapping[str, object] | str | bool

PREVIEWS: Mapping[str, Mapping[str, object]] = {
    "off": {"is_disabled": True},
    "above": {"show_above_text": True},
    "large": {"prefer_large_media": True},
    "small": {"prefer_small_media": True},
}
SHORT_NAMES = {"above": "show_above_text", "large": "prefer_large_media", "small": "prefer_small_media"}
RESERVED_PARAMETERS = {  # parameters that have a field of their own, or that Telewarm sets itself
    "chat_id": "the recipient",
    "from_chat_id": "nothing: a message is not copied here",
    "message_id": "nothing: a message is not edited here",
    "media": "`media`",
    "type": "the media item's kind",
    "text": "`text`",
    "caption": "`caption`",
    "parse_mode": "`parse_mode`",
    "entities": "`entities`",
    "caption_entities": "`entities` of the part",
    "reply_markup": "`reply_markup`",
    "reply_parameters": "`reply_parameters`",
    "reply_to_message_id": "`reply_parameters`",
    "allow_sending_without_reply": "`allow_sending_without_reply`",
    "message_thread_id": "`message_thread_id`",
    "disable_notification": "`disable_notification` (`silent` in the HTTP API)",
    "protect_content": "`protect_content`",
    "show_caption_above_media": "`show_caption_above_media`",
    "has_spoiler": "`has_spoiler`",
    "link_preview_options": "`link_preview`",
    "disable_web_page_preview": "`link_preview`",
    "message_effect_id": "`effect`",
    "thumbnail": "the warm-up: a file id keeps its own",
    "thumb": "the warm-up: a file id keeps its own",
    "method": "the kind of each message",
}
FILE_PARAMETERS = frozenset(
    {
        *("photo", "video", "audio", "document", "voice", "animation", "video_note", "sticker"),
        *("live_photo", "paid_media", "rich_message"),
    }
)


def preview_options(said: Preview | None) -> Mapping[str, object] | None:
    """Return Telegram's LinkPreviewOptions for the accepted short forms.

    Accepts `off`, `above`, `large`, `small` or several of them with commas, true or false, `{"above": true, "url": …}`,
    or Telegram's own JSON. Raises UsageError.
    """
    if said is None or said is True:
        return None
    if said is False:
        return PREVIEWS["off"]
    if isinstance(said, str):
        options: dict[str, object] = {}
        for word in said.split(","):
            if (known := PREVIEWS.get(word.strip().lower())) is None:
                raise UsageError(f"link_preview is {said[:40]!r}; it is off, above, large, small, or true or false")
            options |= known
    else:
        options = {SHORT_NAMES.get(name, name): value for name, value in said.items() if value is not None}
        if "off" in options:
            options["is_disabled"] = options.pop("off")
    if options.get("prefer_large_media") and options.get("prefer_small_media"):
        raise UsageError("link_preview is large or small, not both")
    return options


def place_of(name: str) -> str | None:
    """Return the field that sets a Bot API parameter which `extra` may not hold. None: `extra` may hold it."""
    if name in FILE_PARAMETERS:
        return f"{name} is the file itself; give a media item in `media`"
    return f"{name} is said by {RESERVED_PARAMETERS[name]}" if name in RESERVED_PARAMETERS else None


def check_extra(what: str, extra: Mapping[str, object]) -> None:
    """Raise UsageError for parameters that `extra` may not hold."""
    for name, value in extra.items():
        if (place := place_of(name)) is not None:
            raise UsageError(f"{what}: {place}")
        if isinstance(value, str) and value.startswith("attach://"):
            raise UsageError(
                f"{what}: {name} refers to an upload, and nothing is uploaded with it; give a file id or URL"
            )
