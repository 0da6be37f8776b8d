"""Options of a message that `telewarm send` and `telewarm broadcast` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import msgspec
import typer
from msgspec import structs

from telewarm.errors import UsageError
from telewarm.models import MessageSet

ButtonsOption: TypeAlias = Annotated[
    str | None, typer.Option("--buttons", metavar="JSON", help="Telegram's own reply_markup.")
]
PreviewOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--link-preview", metavar="HOW", help="off, above, large or small; several with commas."),
]
EffectOption: TypeAlias = Annotated[
    str | None, typer.Option("--effect", metavar="ID", help="Telegram's id of an effect; private chats alone.")
]
FileOption: TypeAlias = Annotated[bool, typer.Option("--as-file", help="Send media as documents, whatever their kind.")]
SpoilerOption: TypeAlias = Annotated[bool, typer.Option("--spoiler", help="Media are blurred until they are tapped.")]
AboveOption: TypeAlias = Annotated[bool, typer.Option("--caption-above", help="Captions above the media, not below.")]
OrderOption: TypeAlias = Annotated[
    bool, typer.Option("--as-given", help="Media in the order given; else audio, video, photo, the rest.")
]
ExtraOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--extra", metavar="NAME=VALUE", help="Any other parameter of the Bot API; repeatable."),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageOptions:
    """As they were given."""

    buttons: str | None = None
    link_preview: str | None = None
    effect: str | None = None
    as_file: bool = False
    spoiler: bool = False
    caption_above: bool = False
    as_given: bool = False
    extra: Sequence[str] = ()

    def apply(self, message: MessageSet) -> MessageSet:
        """The message with them. Raises UsageError."""
        return structs.replace(
            message,
            reply_markup=parse_buttons(self.buttons),
            link_preview=self.link_preview,
            effect=self.effect,
            as_file=self.as_file,
            has_spoiler=self.spoiler,
            show_caption_above_media=self.caption_above,
            as_given=self.as_given,
            extra=dict([parse_extra(one) for one in self.extra]) or None,
        )


def parse_buttons(text: str | None) -> dict[str, Any] | None:
    """Raises UsageError."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError):
        raise UsageError('--buttons is not JSON as {"inline_keyboard": [[{"text": "…", "url": "…"}]]}') from None


def parse_extra(given: str) -> tuple[str, object]:
    """A value that is JSON is taken as JSON, any other as text. Raises UsageError."""
    name, is_pair, value = given.partition("=")
    if not is_pair or not name.strip():
        raise UsageError(f"--extra {given}: write NAME=VALUE, such as --extra allow_paid_broadcast=true")
    try:
        return name.strip(), msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError):
        return name.strip(), value
