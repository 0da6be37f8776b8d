"""What the sandbox saw: enough to prove that nobody got anything twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from telewarm.sandbox.uploads import Upload


@dataclass(slots=True)
class Tally:
    """Counts of one bot, or of all. Uploads are files that came as bytes; `upload_bytes` counts no form around them."""

    calls: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    uploads: int = 0
    upload_bytes: int = 0
    fetches: int = 0  # URLs fetched
    forwards: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    floods: int = 0  # 429s, also those inside a 400

    def as_dict(self) -> dict[str, object]:
        return {
            "calls": dict(self.calls),
            "messages": self.messages,
            "by_kind": dict(self.by_kind),
            "uploads": self.uploads,
            "upload_bytes": self.upload_bytes,
            "fetches": self.fetches,
            "forwards": self.forwards,
            "errors": {str(code): count for code, count in self.errors.items()},
            "floods": self.floods,
        }


@dataclass(slots=True)
class Stats:
    total: Tally = field(default_factory=Tally)
    bots: dict[int, Tally] = field(default_factory=dict)
    chats: Counter[int] = field(default_factory=Counter)  # messages posted to each chat
    active: int = 0
    max_active: int = 0
    faults: int = 0

    def tally(self, bot: int) -> Tally:
        tally = self.bots.get(bot)
        if tally is None:
            tally = self.bots[bot] = Tally()
        return tally

    def begin(self, bot: int, method: str) -> None:
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        self.total.calls[method] += 1
        self.tally(bot).calls[method] += 1

    def end(self) -> None:
        self.active -= 1

    def uploaded(self, bot: int, uploads: list[Upload]) -> None:
        for tally in (self.total, self.tally(bot)):
            tally.uploads += len(uploads)
            tally.upload_bytes += sum(upload.size for upload in uploads)

    def posted(self, bot: int, chat: int, kind: str) -> None:
        self.chats[chat] += 1
        for tally in (self.total, self.tally(bot)):
            tally.messages += 1
            tally.by_kind[kind] += 1

    def fetched(self, bot: int) -> None:
        for tally in (self.total, self.tally(bot)):
            tally.fetches += 1

    def forwarded(self, bot: int) -> None:
        for tally in (self.total, self.tally(bot)):
            tally.forwards += 1

    def refused(self, bot: int, code: int, *, flood: bool) -> None:
        for tally in (self.total, self.tally(bot)):
            tally.errors[code] += 1
            tally.floods += flood

    def clear(self) -> None:
        """Forget everything but what is going on right now."""
        self.total = Tally()
        self.bots.clear()
        self.chats.clear()
        self.max_active = self.active
        self.faults = 0

    def as_dict(self, *, chats: bool) -> dict[str, object]:
        """`chats`: with the count of every chat, which may be long."""
        shown = {
            **self.total.as_dict(),
            "bots": {str(bot): tally.as_dict() for bot, tally in self.bots.items()},
            "active": self.active,
            "max_active": self.max_active,
            "faults": self.faults,
            "chats_reached": len(self.chats),
            "most_in_one_chat": max(self.chats.values(), default=0),
        }
        if chats:
            shown["chats"] = {str(chat): count for chat, count in self.chats.items()}
        return shown
