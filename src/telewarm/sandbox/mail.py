"""Messages, in columns: twenty-odd bytes each, so that millions fit.

A channel or supergroup numbers its own messages; private chats and basic groups share one numbering for each bot.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass

from telewarm.sandbox.chats import Chat
from telewarm.sandbox.files import File

MAX_SHARED = 1000  # contents remembered so that equal ones are one object


@dataclass(frozen=True, slots=True)
class Content:
    """What a message shows; shared by all messages that show the same. `file` is None for text."""

    sender: int
    file: File | None
    text: str  # or the caption
    entities: tuple[tuple[int, int, str, str], ...] = ()
    extras: tuple[tuple[str, object], ...] = ()
    protected: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    chat: int
    id: int
    date: int
    content: Content


class Mailbox:
    """The messages of one numbering, from 1 up."""

    __slots__ = ("_chats", "_contents", "_dates")

    def __init__(self) -> None:
        self._chats = array("q")
        self._dates = array("q")
        self._contents: list[Content | None] = []

    def add(self, chat: int, date: int, content: Content) -> int:
        """The new message's id."""
        self._chats.append(chat)
        self._dates.append(date)
        self._contents.append(content)
        return len(self._contents)

    def get(self, chat: int, message_id: int) -> Message | None:
        at = message_id - 1
        if not 0 <= at < len(self._contents) or self._chats[at] != chat:
            return None
        content = self._contents[at]
        return None if content is None else Message(chat, message_id, self._dates[at], content)

    def remove(self, message_id: int) -> None:
        self._contents[message_id - 1] = None


class Mail:
    """All mailboxes. Old texts are forgotten past `keep_texts`, old media past `keep_media` (None: never)."""

    def __init__(self, *, keep_texts: int, keep_media: int | None) -> None:
        self._boxes: dict[int, Mailbox] = {}
        self._texts: deque[tuple[Mailbox, int]] = deque()
        self._media: deque[tuple[Mailbox, int]] = deque()
        self._contents: dict[object, Content] = {}
        self.keep_texts = keep_texts
        self.keep_media = keep_media

    def box(self, chat: Chat, bot: int) -> Mailbox:
        owner = chat.id if chat.type in {"channel", "supergroup"} else bot
        box = self._boxes.get(owner)
        if box is None:
            box = self._boxes[owner] = Mailbox()
        return box

    def post(self, chat: Chat, date: int, content: Content) -> Message:
        box = self.box(chat, content.sender)
        content = self._shared(content)
        message_id = box.add(chat.id, date, content)
        if content.file is None:
            forget_past(self._texts, self.keep_texts, box, message_id)
        elif self.keep_media is not None:
            forget_past(self._media, self.keep_media, box, message_id)
        return Message(chat.id, message_id, date, content)

    def _shared(self, content: Content) -> Content:
        """One object for all messages of a broadcast."""
        if content.file is None or content.extras:
            return content
        key = (content.sender, content.file.id, content.text, content.entities, content.protected)
        if len(self._contents) > MAX_SHARED:
            self._contents.clear()
        return self._contents.setdefault(key, content)

    def clear(self) -> None:
        self._boxes.clear()
        self._contents.clear()
        self._texts.clear()
        self._media.clear()


def forget_past(ring: deque[tuple[Mailbox, int]], limit: int, box: Mailbox, message_id: int) -> None:
    ring.append((box, message_id))
    if len(ring) > limit:
        old, old_id = ring.popleft()
        old.remove(old_id)
