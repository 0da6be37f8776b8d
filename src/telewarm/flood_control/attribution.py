"""Attribution of a 429: to the bot, a chat, the last second of a chat, or an upload size. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

OVERLOAD_RETRY_AFTER_SECONDS = 60.0  # seconds; the `retry_after` with which a Bot API server names its own backlog
WINDOW_TOLERANCE_SECONDS = -0.25  # seconds by which our estimate of the server's window may be wrong
MIN_BOT_FILL = 0.5  # minimum fill of the bot's window for blaming the bot when the chat explains the 429 as well


class LimitScope(Enum):
    """The scope whose limit a 429 enforces."""

    BOT = auto()
    CHAT = auto()
    BURST = auto()  # the chat, by its messages of about the last second
    SIZE = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class ScopeEvidence:
    """State of one scope when a 429 arrives. `fill`: messages in its window, the refused one included, by its capacity.

    `frees_in`: seconds until the server's window loses its oldest message.
    """

    fill: float
    frees_in: float

    def explains(self, retry_after: float) -> bool:
        """Return whether a full window explains `retry_after`: the whole seconds until its oldest message leaves."""
        return WINDOW_TOLERANCE_SECONDS <= retry_after - self.frees_in <= 1 - WINDOW_TOLERANCE_SECONDS

    def allows(self, retry_after: float) -> bool:
        """Return whether the scope may be a token bucket, whose next token comes sooner than a window opens."""
        return retry_after - self.frees_in <= 1 - WINDOW_TOLERANCE_SECONDS


def attribute_429(
    retry_after: float,
    *,
    bot: ScopeEvidence,
    chat: ScopeEvidence,
    burst: ScopeEvidence | None = None,
    spaced: bool,
    others_flooded: bool,
) -> LimitScope:
    """Return the scope that a 429 is about.

    `burst`: the chat's messages of the last second, when there are others than the refused one. `spaced`: the call
    uploads a size that is spaced. `others_flooded`: other chats are flooded, too.
    """
    if spaced and retry_after == OVERLOAD_RETRY_AFTER_SECONDS and not chat.explains(retry_after):
        return LimitScope.SIZE
    if burst is not None and _is_burst(retry_after, burst, bot=bot, chat=chat):
        return LimitScope.BURST
    if bot.explains(retry_after) and (bot.fill > chat.fill or not chat.explains(retry_after)):
        return LimitScope.BOT
    return LimitScope.BOT if others_flooded and chat.fill < 0.5 else LimitScope.CHAT


def _is_burst(retry_after: float, burst: ScopeEvidence, *, bot: ScopeEvidence, chat: ScopeEvidence) -> bool:
    if not burst.allows(retry_after) or (chat.explains(retry_after) and chat.fill >= burst.fill):
        return False
    if not bot.explains(retry_after):
        return True
    return bot.fill <= burst.fill if burst.explains(retry_after) else bot.fill < MIN_BOT_FILL
