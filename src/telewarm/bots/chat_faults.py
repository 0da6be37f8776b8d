"""Warm-up chats that refused the bot a moment ago, which uploads avoid meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from telewarm.models import ChatId, Kind

FAULT_SECONDS = 60.0  # for which a chat that refused is passed over, while another one can be used
ANY_KIND = None


class ChatFaults:
    """One bot's. A chat may refuse one kind of media only, such as photos."""

    def __init__(self) -> None:
        self._faulty_until: dict[tuple[ChatId, Kind | None], float] = {}

    def note(self, chat_id: ChatId, kind: Kind | None, *, now: float) -> None:
        """`kind` None: the chat refuses everything."""
        self._faulty_until[chat_id, kind] = now + FAULT_SECONDS

    def usable(self, chats: Sequence[ChatId], kind: Kind, *, now: float) -> tuple[ChatId, ...]:
        """The chats without a fault, in their order; all of them when each has one, since one may be cured by now."""
        if not self._faulty_until:
            return tuple(chats)
        good = tuple(chat_id for chat_id in chats if not self._faulty(chat_id, kind, now))
        return good or tuple(chats)

    def any_usable(self, chats: Sequence[ChatId], kind: Kind, *, now: float) -> bool:
        """Whether at least one chat has no fault."""
        return any(not self._faulty(chat_id, kind, now) for chat_id in chats)

    def clear(self) -> None:
        """The bot has other chats, another token, or was checked again."""
        self._faulty_until.clear()

    def _faulty(self, chat_id: ChatId, kind: Kind, now: float) -> bool:
        return any(self._faulty_until.get((chat_id, one), 0.0) > now for one in (kind, ANY_KIND))
