"""Statistics of the sandbox: enough to prove that no recipient got a message twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from telewarm.sandbox.uploads import Upload


@dataclass(slots=True)
class Tally:
    """Counts of one bot, or of all. Uploads are files received as bytes; `upload_bytes` excludes the form."""

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
        """Return the counts."""
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
    """All counts."""

    total: Tally = field(default_factory=Tally)
    bots: dict[int, Tally] = field(default_factory=dict)
    chats: Counter[int] = field(default_factory=Counter)  # messages posted to each chat
    active: int = 0
    max_active: int = 0
    faults: int = 0

    def tally(self, bot: int) -> Tally:
        """Return the counts of a bot."""
        tally = self.bots.get(bot)
        if tally is None:
            tally = self.bots[bot] = Tally()
        return tally

    def begin(self, bot: int, method: str) -> None:
        """Count the start of a request."""
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        self.total.calls[method] += 1
        self.tally(bot).calls[method] += 1

    def end(self) -> None:
        """Count the end of a request."""
        self.active -= 1

    def uploaded(self, bot: int, uploads: list[Upload]) -> None:
        """Count uploads."""
        for tally in (self.total, self.tally(bot)):
            tally.uploads += len(uploads)
            tally.upload_bytes += sum(upload.size for upload in uploads)

    def posted(self, bot: int, chat: int, kind: str) -> None:
        """Count a message."""
        self.chats[chat] += 1
        for tally in (self.total, self.tally(bot)):
            tally.messages += 1
            tally.by_kind[kind] += 1

    def fetched(self, bot: int) -> None:
        """Count a fetch."""
        for tally in (self.total, self.tally(bot)):
            tally.fetches += 1

    def forwarded(self, bot: int) -> None:
        """Count a forward."""
        for tally in (self.total, self.tally(bot)):
            tally.forwards += 1

    def refused(self, bot: int, code: int, *, flood: bool) -> None:
        """Count an error."""
        for tally in (self.total, self.tally(bot)):
            tally.errors[code] += 1
            tally.floods += flood

    def clear(self) -> None:
        """Reset all counts except those of current requests."""
        self.total = Tally()
        self.bots.clear()
        self.chats.clear()
        self.max_active = self.active
        self.faults = 0

    def as_dict(self, *, chats: bool) -> dict[str, object]:
        """Return the counts. `chats`: with those of every chat, which may be long."""
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
