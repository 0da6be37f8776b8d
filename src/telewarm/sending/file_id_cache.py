"""LRU cache of file ids, invalidated by NOTIFY."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from hashlib import md5
from weakref import WeakValueDictionary

from telewarm.models import BotId, CachedFileId, FileId, MediaId

# NOTIFY payload: `<id>:<tag>` of each changed media item, separated by commas, or `bot <id>`. The tag is that of the
# item's current file id, `-` when it has none, `!` when the item was deleted.
CHANNEL = "telewarm_media"
TAG_DIGITS = 8  # hex digits
REMOVED_TAG = "!"
MAX_IDS = 200_000  # ids kept; about 500 bytes each
MAX_REMOVED_REMEMBERED = 20_000  # deleted items remembered, so that a read from just before the deletion is not cached


def tag_of(file_id: FileId) -> str:
    """Return the tag of a file id, computed as in the database."""
    return md5(file_id.encode(), usedforsecurity=False).hexdigest()[:TAG_DIGITS]


class FileIdCache:
    """LRU cache of file ids by media item."""

    def __init__(self, *, max_ids: int = MAX_IDS) -> None:
        self._max_ids = max_ids
        self._ids: OrderedDict[MediaId, CachedFileId] = OrderedDict()
        self._removed: OrderedDict[MediaId, None] = OrderedDict()
        self._waiters: WeakValueDictionary[MediaId, asyncio.Event] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, media_id: MediaId) -> CachedFileId | None:
        """Return the cached file id, and mark it as used."""
        warm = self._ids.get(media_id)
        if warm is not None:
            self._ids.move_to_end(media_id)
        return warm

    def put(self, warm: CachedFileId) -> None:
        """Cache a file id, unless its item was deleted meanwhile."""
        if self._removed and warm.media_id in self._removed:
            return
        self._ids[warm.media_id] = warm
        if len(self._ids) > self._max_ids:
            self._ids.popitem(last=False)

    def drop(self, media_id: MediaId) -> None:
        """Remove the file id of an item."""
        self._ids.pop(media_id, None)

    def on_notification(self, payload: str) -> None:
        """Apply a NOTIFY payload: these items, or all items of a bot, have another file id, none, or an error.

        An id that equals the new one stays: mostly this process recorded it.
        """
        if payload.startswith("bot "):
            self._drop_bot(BotId(int(payload.removeprefix("bot "))))
            return
        for item in payload.split(","):
            digits, _, tag = item.partition(":")
            media_id = MediaId(int(digits))
            warm = self._ids.get(media_id)
            if tag == REMOVED_TAG:
                self._forget(media_id)
            elif warm is not None and tag_of(warm.file_id) != tag:
                self.drop(media_id)
            if (event := self._waiters.pop(media_id, None)) is not None:
                event.set()

    def _forget(self, media_id: MediaId) -> None:
        self.drop(media_id)
        self._removed[media_id] = None
        if len(self._removed) > MAX_REMOVED_REMEMBERED:
            self._removed.popitem(last=False)

    def _drop_bot(self, bot_id: BotId) -> None:
        for media_id in [media_id for media_id, warm in self._ids.items() if warm.bot_id == bot_id]:
            self.drop(media_id)

    def clear(self) -> None:
        """Drop everything, after the LISTEN connection was lost."""
        self._ids.clear()
        for event in list(self._waiters.values()):
            event.set()
        self._waiters.clear()

    def change_event(self, media_id: MediaId) -> asyncio.Event:
        """Return the event that is set at the item's next change. Take it before reading the item."""
        return self._waiters.setdefault(media_id, asyncio.Event())
