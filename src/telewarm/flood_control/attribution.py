"""Attribution of a 429: to the bot, a chat, the last second of a chat, or an upload size. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

OVERLOAD_RETRY_AFTER_SECONDS = 60.0  # seconds; the `retry_after` with which a Bot API server names its own backlog
WINDOW_TOLERANCE_SECONDS = -0.25  # seconds by which our idea of the server's window may be wrong
MIN_BOT_FILL = 0.5  # how full the bot's window is at least when a 429 that the chat explains as well is about the bot


class LimitScope(Enum):
    """The scope whose limit was met."""

    BOT = auto()
    CHAT = auto()
    BURST = auto()  # the chat, by its messages of the last second or so
    SIZE = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class ScopeEvidence:
    """One scope when a 429 comes. `fill`: messages in its window, the refused one too, for each it takes.

    `frees_in`: seconds until the server's window loses its oldest message.
    """

    fill: float
    frees_in: float

    def explains(self, retry_after: float) -> bool:
        """A full window asks to wait until it loses its oldest message, in whole seconds."""
        return WINDOW_TOLERANCE_SECONDS <= retry_after - self.frees_in <= 1 - WINDOW_TOLERANCE_SECONDS

    def allows(self, retry_after: float) -> bool:
        """Whether it may be a bucket that asks to wait for its next message only: sooner than a window would."""
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
    """`burst`: the chat's messages of the last second, when there are others than the refused one.

    `spaced`: an upload of a size that is spaced. `others_flooded`: so are other chats.
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
