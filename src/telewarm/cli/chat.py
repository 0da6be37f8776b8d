"""A chat as the command line takes it: an id, or the `@name` of a public channel or group."""

from __future__ import annotations

import typer

from telewarm.bots.chat_names import CHAT_ID_PATTERN, NAME_PATTERN
from telewarm.cli.common import is_bigint
from telewarm.errors import UsageError


def parse_chat(argument: str, what: str) -> int | str:
    """Raises UsageError."""
    if CHAT_ID_PATTERN.fullmatch(argument) and not is_bigint(int(argument)):
        raise UsageError(f"{what} {argument} is too large for an id")
    if CHAT_ID_PATTERN.fullmatch(argument):
        return int(argument)
    if NAME_PATTERN.fullmatch(argument):
        return argument
    raise UsageError(
        f"{what} {argument} is not a chat id: use one such as 500000001, or -1001234567890 for a channel, or "
        f"the @name of "
        "a public channel or group"
    )


def parse_recipient(given: str) -> str:
    """For a callback. Raises BadParameter."""
    try:
        parse_chat(given, "The chat")
    except UsageError as error:
        raise typer.BadParameter(error.message) from None
    return given
