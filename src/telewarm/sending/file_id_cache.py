"""LRU cache of file ids, invalidated by NOTIFY."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from hashlib import md5
from weakref import WeakValueDictionary

from telewarm.models import BotId, CachedFileId, FileId, MediaId

# NOTIFY: `<id>:<tag>` of each media item that changed, with commas between, or `bot <id>`. The tag is that of the file
# id that the item has now, `-` when it has none, `!` when the item was deleted.
CHANNEL = "telewarm_media"
TAG_DIGITS = 8  # hex digits
REMOVED_TAG = "!"
MAX_IDS = 200_000  # ids kept; about 500 bytes each
MAX_REMOVED_REMEMBERED = 20_000  # deleted items remembered: what was read a moment before they went must not come after


def tag_of(file_id: FileId) -> str:
    """As the database makes it."""
    return md5(file_id.encode(), usedforsecurity=False).hexdigest()[:TAG_DIGITS]


class FileIdCache:
    def __init__(self, *, max_ids: int = MAX_IDS) -> None:
        self._max_ids = max_ids
        self._ids: OrderedDict[MediaId, CachedFileId] = OrderedDict()
        self._removed: OrderedDict[MediaId, None] = OrderedDict()
        self._waiters: WeakValueDictionary[MediaId, asyncio.Event] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, media_id: MediaId) -> CachedFileId | None:
        warm = self._ids.get(media_id)
        if warm is not None:
            self._ids.move_to_end(media_id)
        return warm

    def put(self, warm: CachedFileId) -> None:
        """Unless the item was deleted meanwhile."""
        if self._removed and warm.media_id in self._removed:
            return
        self._ids[warm.media_id] = warm
        if len(self._ids) > self._max_ids:
            self._ids.popitem(last=False)

    def drop(self, media_id: MediaId) -> None:
        self._ids.pop(media_id, None)

    def on_notification(self, payload: str) -> None:
        """What NOTIFY says: these items, or all of a bot, have another file id now, or none, or an error.

        An id that is the new one stays: mostly it was this process that got it.
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
        """The connection that tells of changes broke: believe nothing."""
        self._ids.clear()
        for event in list(self._waiters.values()):
            event.set()
        self._waiters.clear()

    def change_event(self, media_id: MediaId) -> asyncio.Event:
        """Set at the next change of the item. Take it before looking at the item, hold on to it, then wait."""
        return self._waiters.setdefault(media_id, asyncio.Event())
