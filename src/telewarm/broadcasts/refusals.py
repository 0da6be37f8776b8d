"""Detection of a refused message, as opposed to a refused chat, so that the broadcast pauses early. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from telewarm.errors import BadRequest, InvalidFileId, TelegramClientError
from telewarm.sending.send_context import SendResult

MAX_IN_A_ROW = 10  # equal refusals in a row while nobody has received the message
MAX_IN_A_ROW_AFTER_SUCCESS = 50  # equal refusals in a row after a success: it may be the chats
NUMBER_PATTERN = re.compile(r"\d+")
# Telegram's descriptions of a refused text, markup, button or file: equal for every recipient.
MESSAGE_REFUSED_PATTERN = re.compile(
    r"can't parse|unsupported parse_mode|entit(y|ies)|(caption|text|message|media_caption)[ _](is[ _])?too[ _]long"
    r"|(text|message)[ _](is|must be)[ _](non-)?empty|message_empty|button|keyboard|reply[ _]markup"
    r"|too big|non-empty|invalid_dimensions|image_process_failed|unsupported extension"
    r"|(photo|video|document|audio|voice|animation|sticker|file|url|quote_text)_([a-z]+_)*invalid"
    r"|can't be mixed|too many messages|no messages to send|media_(invalid|grouped_invalid)|effect",
    re.IGNORECASE,
)


def refusal_of(results: Sequence[SendResult]) -> TelegramClientError | None:
    """Return the first error of a set that may be caused by the message."""
    for result in results:
        if isinstance(result.error, BadRequest | InvalidFileId):
            return result.error
    return None


def cause_of(description: str) -> str:
    """Return the description without the parts that differ by chat, so that refusals of one cause are equal."""
    return NUMBER_PATTERN.sub("#", description)[:200]


class RefusalCounter:
    """Counts equal refusals in a row. `known`: the cause that the owner has seen, and which does not pause again."""

    def __init__(self, *, known: str | None, reached: bool) -> None:
        self._known = known
        self._reached = reached  # whether a recipient has received the message
        self._cause = ""
        self._count = 0

    def succeeded(self) -> None:
        """Note a recipient that received the whole message."""
        self._reached = True
        self._cause, self._count = "", 0

    def refused(self, error: TelegramClientError) -> bool:
        """Note a refusal. Returns whether to pause the broadcast, because other recipients would refuse as well."""
        cause = cause_of(error.description)
        self._count = self._count + 1 if cause == self._cause else 1
        self._cause = cause
        if cause == self._known:
            return False
        return self._count >= self._enough(error)

    def _enough(self, error: TelegramClientError) -> int:
        if self._reached:
            return MAX_IN_A_ROW_AFTER_SUCCESS
        return (
            1 if isinstance(error, InvalidFileId) or MESSAGE_REFUSED_PATTERN.search(error.description) else MAX_IN_A_ROW
        )
