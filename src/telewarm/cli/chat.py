"""A chat as the command line takes it: an id, or the `@name` of a public channel or group."""

from __future__ import annotations

import typer

from telewarm.bots.chat_names import NAME, NUMBER
from telewarm.cli.common import fits
from telewarm.errors import UsageError


def checked_chat(given: str, what: str) -> int | str:
    """Raises UsageError."""
    if NUMBER.fullmatch(given) and not fits(int(given)):
        raise UsageError(f"{what} {given} is too large for an id")
    if NUMBER.fullmatch(given):
        return int(given)
    if NAME.fullmatch(given):
        return given
    raise UsageError(
        f"{what} {given} is not a chat id: use one such as 500000001, or -1001234567890 for a channel, or the @name of "
        "a public channel or group"
    )


def recipient(given: str) -> str:
    """For a callback. Raises BadParameter."""
    try:
        checked_chat(given, "The chat")
    except UsageError as error:
        raise typer.BadParameter(error.message) from None
    return given
