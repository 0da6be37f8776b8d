"""Names of media items. Pure."""

from __future__ import annotations

from telewarm.models import Kind, MediaItem, MediaState, printable_name

MAX_NAME_CHARACTERS = 255  # characters
KINDS_WITHOUT_NAME = frozenset(
    {Kind.PHOTO, Kind.VOICE, Kind.VIDEO_NOTE, Kind.STICKER}
)  # recipients see no file name of these kinds


def shows_old_name(item: MediaItem) -> bool:
    """Return whether recipients see another name than the item has."""
    return item.file_id is not None and item.kind not in KINDS_WITHOUT_NAME and item.name != item.sent_name


def old_name_note(item: MediaItem) -> str:
    """Return the remark about the name that recipients see."""
    seen = "a name made of the file" if item.sent_name is None else f'"{item.sent_name}"'
    until = "once it is rewarmed, which is queued" if item.state is MediaState.WARMING else "once it is rewarmed"
    return f"recipients still see {seen}; they see the new name {until}"


def name_of(text: str | None) -> str | None:
    """Return a storable one-line name; None when nothing is left."""
    return printable_name(printable_name(text or "")[:MAX_NAME_CHARACTERS]) or None
