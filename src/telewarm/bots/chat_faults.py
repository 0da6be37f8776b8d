"""Warm-up chats that refused the bot recently, which uploads avoid for a while."""

from __future__ import annotations

from collections.abc import Sequence

from telewarm.models import ChatId, Kind

FAULT_SECONDS = 60.0  # for which a chat that refused is avoided, while another one is usable
ANY_KIND = None


class ChatFaults:
    """Faults of one bot's warm-up chats. A chat may refuse one kind of media only, such as photos."""

    def __init__(self) -> None:
        self._faulty_until: dict[tuple[ChatId, Kind | None], float] = {}

    def note(self, chat_id: ChatId, kind: Kind | None, *, now: float) -> None:
        """Note a refusal. `kind` None: the chat refuses everything."""
        self._faulty_until[chat_id, kind] = now + FAULT_SECONDS

    def usable(self, chats: Sequence[ChatId], kind: Kind, *, now: float) -> tuple[ChatId, ...]:
        """Return the chats without a fault, in their order; without any, all of them: one may be repaired by now."""
        if not self._faulty_until:
            return tuple(chats)
        good = tuple(chat_id for chat_id in chats if not self._faulty(chat_id, kind, now))
        return good or tuple(chats)

    def any_usable(self, chats: Sequence[ChatId], kind: Kind, *, now: float) -> bool:
        """Return whether at least one chat has no fault."""
        return any(not self._faulty(chat_id, kind, now) for chat_id in chats)

    def clear(self) -> None:
        """Forget all faults, after a change of chats or token, or a new health check."""
        self._faulty_until.clear()

    def _faulty(self, chat_id: ChatId, kind: Kind, now: float) -> bool:
        return any(self._faulty_until.get((chat_id, one), 0.0) > now for one in (kind, ANY_KIND))
