"""Detects whether file ids become invalid one by one or all together. Pure: the time is an argument."""

from __future__ import annotations

from telewarm.models import BotId, MediaId

MASS_INVALID_ITEMS = 3  # media items
WINDOW_SECONDS = 60.0  # seconds


class InvalidFileIdDetector:
    """Keeps the last invalid ids of each bot that has had no success by file id since."""

    def __init__(self, *, threshold: int = MASS_INVALID_ITEMS, window: float = WINDOW_SECONDS) -> None:
        self._threshold = threshold
        self._window = window
        self._invalid_at: dict[BotId, dict[MediaId, float]] = {}

    def __len__(self) -> int:
        """Return the number of bots with an invalid id."""
        return len(self._invalid_at)

    def note_invalid(self, bot_id: BotId, media_id: MediaId, *, now: float) -> bool:
        """Record an invalid id. Returns whether so many items failed in a row that the cause is the bot."""
        died = self._invalid_at.setdefault(bot_id, {})
        died.pop(media_id, None)
        died[media_id] = now  # oldest first
        for other, at in list(died.items()):
            if at <= now - self._window or len(died) > self._threshold:
                del died[other]
        return len(died) >= self._threshold

    def note_valid(self, bot_id: BotId) -> None:
        """Record a successful send by file id: the bot's ids are valid."""
        self._invalid_at.pop(bot_id, None)
