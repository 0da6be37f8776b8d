"""Messages in columns of some twenty bytes each, so that millions fit.

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
    """Content of a message, shared by all messages with the same content. `file` None: text."""

    sender: int
    file: File | None
    text: str  # or the caption
    entities: tuple[tuple[int, int, str, str], ...] = ()
    extras: tuple[tuple[str, object], ...] = ()
    protected: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A message."""

    chat: int
    id: int
    date: int
    content: Content


class Mailbox:
    """Messages of one numbering, from 1 up."""

    __slots__ = ("_chats", "_contents", "_dates")

    def __init__(self) -> None:
        self._chats = array("q")
        self._dates = array("q")
        self._contents: list[Content | None] = []

    def add(self, chat: int, date: int, content: Content) -> int:
        """Add a message. Returns its id."""
        self._chats.append(chat)
        self._dates.append(date)
        self._contents.append(content)
        return len(self._contents)

    def get(self, chat: int, message_id: int) -> Message | None:
        """Return a message."""
        at = message_id - 1
        if not 0 <= at < len(self._contents) or self._chats[at] != chat:
            return None
        content = self._contents[at]
        return None if content is None else Message(chat, message_id, self._dates[at], content)

    def remove(self, message_id: int) -> None:
        """Remove a message."""
        self._contents[message_id - 1] = None


class Mail:
    """All mailboxes. Old texts are dropped beyond `keep_texts`, old media beyond `keep_media` (None: never)."""

    def __init__(self, *, keep_texts: int, keep_media: int | None) -> None:
        self._boxes: dict[int, Mailbox] = {}
        self._texts: deque[tuple[Mailbox, int]] = deque()
        self._media: deque[tuple[Mailbox, int]] = deque()
        self._contents: dict[object, Content] = {}
        self.keep_texts = keep_texts
        self.keep_media = keep_media

    def box(self, chat: Chat, bot: int) -> Mailbox:
        """Return the mailbox of a chat."""
        owner = chat.id if chat.type in {"channel", "supergroup"} else bot
        box = self._boxes.get(owner)
        if box is None:
            box = self._boxes[owner] = Mailbox()
        return box

    def post(self, chat: Chat, date: int, content: Content) -> Message:
        """Add a message to a chat."""
        box = self.box(chat, content.sender)
        content = self._shared(content)
        message_id = box.add(chat.id, date, content)
        if content.file is None:
            forget_past(self._texts, self.keep_texts, box, message_id)
        elif self.keep_media is not None:
            forget_past(self._media, self.keep_media, box, message_id)
        return Message(chat.id, message_id, date, content)

    def _shared(self, content: Content) -> Content:
        """Return one object for all equal contents."""
        if content.file is None or content.extras:
            return content
        key = (content.sender, content.file.id, content.text, content.entities, content.protected)
        if len(self._contents) > MAX_SHARED:
            self._contents.clear()
        return self._contents.setdefault(key, content)

    def clear(self) -> None:
        """Forget all messages."""
        self._boxes.clear()
        self._contents.clear()
        self._texts.clear()
        self._media.clear()


def forget_past(ring: deque[tuple[Mailbox, int]], limit: int, box: Mailbox, message_id: int) -> None:
    """Drop the oldest messages beyond a limit."""
    ring.append((box, message_id))
    if len(ring) > limit:
        old, old_id = ring.popleft()
        old.remove(old_id)
