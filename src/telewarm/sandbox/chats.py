"""Chats: every id is reachable until declared otherwise (facts 4.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from telewarm.sandbox.bots import Bot, Bots
from telewarm.sandbox.clock import monotonic
from telewarm.sandbox.errors import ApiError, bad, forbidden

CHANNELS = -1_000_000_000_000  # ids at or below: channels and supergroups

GENERAL = 1  # the topic of every forum

Type = Literal["private", "group", "supergroup", "channel"]
Status = Literal["administrator", "member", "left", "kicked"]

RIGHTS = {
    "photo": "photos",
    "video": "videos",
    "document": "documents",
    "audio": "music",
    "animation": "animations",
    "sticker": "stickers",
    "voice": "voice notes",
    "video_note": "video notes",
    "text": "text messages",
}


@dataclass(slots=True)
class Chat:
    """A chat. The defaults are those of an undeclared one."""

    id: int
    type: Type
    title: str = ""
    username: str = ""
    exists: bool = True
    deactivated: bool = False
    deleted: bool = False  # a group
    protected: bool = False
    can_post: bool = True
    can_delete: bool = True  # other senders' messages
    write_access: bool = True
    migrated_to: int | None = None
    refuses: str = ""  # the backend's words for whoever writes there, such as CHAT_RESTRICTED
    slow_mode: int = 0  # seconds between two messages of one bot
    topics: dict[int, bool] = field(default_factory=dict)  # of a forum: whether each is open; 1 is General
    wrote: dict[int, float] = field(default_factory=dict)  # when each bot wrote last, where slow mode is on
    never_started: bool = False
    blocked: bool = False  # by every bot's standards
    blocked_bots: set[int] = field(default_factory=set)
    restricted: set[str] = field(default_factory=set)  # kinds that may not be sent
    voice_forbidden: set[str] = field(default_factory=set)  # voice and video_note, by a user's privacy
    members: dict[int, Status] = field(default_factory=dict)
    others: Status = "administrator"  # bots that are not in `members`

    def status(self, bot: Bot) -> Status:
        """Return the bot's membership."""
        return self.members.get(bot.id, self.others)

    def as_chat(self) -> dict[str, object]:
        """Return the chat as a Chat object."""
        shown: dict[str, object] = {"id": self.id}
        if self.type == "private":
            shown["first_name"] = self.title
        else:
            shown["title"] = self.title
        if self.username:
            shown["username"] = self.username
        shown["type"] = self.type
        return shown


def default_chat(chat_id: int) -> Chat:
    """Return an undeclared chat."""
    if chat_id > 0:
        return Chat(chat_id, "private", title=f"User {chat_id}")
    if chat_id > CHANNELS:
        return Chat(chat_id, "group", title=f"Group {-chat_id}")
    return Chat(chat_id, "channel", title=f"Channel {CHANNELS - chat_id}")


class Chats:
    """Holds only declared chats, so a million undeclared ones cost nothing."""

    def __init__(self, bots: Bots) -> None:
        self._bots = bots
        self._declared: dict[int, Chat] = {}
        self._names: dict[str, int] = {}

    def declare(self, chat_id: int, **changes: object) -> Chat:
        """Declare and change a chat."""
        chat = self._declared.setdefault(chat_id, default_chat(chat_id))
        for name, value in changes.items():
            setattr(chat, name, value)
        if chat.username:
            self._names[f"@{chat.username.lower()}"] = chat_id
        return chat

    def clear(self) -> None:
        """Forget all chats."""
        self._declared.clear()
        self._names.clear()

    def id_of(self, text: str) -> int:
        """Return the id that a `chat_id` parameter names."""
        if text.startswith("@"):
            named = self._names.get(text.lower())
            if named is None:
                raise bad("chat not found")
            return named
        try:
            chat_id = int(text)
        except ValueError:
            chat_id = 0
        if chat_id == 0:
            raise bad("chat not found")
        return chat_id

    def find(self, bot: Bot, text: str, *, declared_only: bool = False) -> Chat:
        """Return the chat if the bot can see it: step 3 of the order of errors."""
        if not text:
            raise bad("chat_id is empty")
        chat_id = self.id_of(text)
        chat = self._declared.get(chat_id)
        if chat is None:
            if declared_only:
                raise bad("chat not found")
            chat = default_chat(chat_id)
        if not chat.exists:
            raise bad("chat not found")
        if chat.type != "private":
            check_member(chat, bot)
        return chat

    def find_for_post(self, bot: Bot, text: str, *, declared_only: bool = False) -> Chat:
        """Return the chat if the bot may post to it: steps 3 and 4."""
        chat = self.find(bot, text, declared_only=declared_only)
        if chat.migrated_to is not None:
            raise ApiError(400, "group chat was upgraded to a supergroup chat", migrate_to_chat_id=chat.migrated_to)
        if chat.deleted:
            raise forbidden("the group chat was deleted")
        if chat.deactivated:
            raise forbidden("user is deactivated")
        if chat.type == "private" and chat.id != bot.id and self._bots.get(chat.id) is not None:
            raise forbidden("the bot can't send messages to the bot")
        if chat.type == "channel" and not chat.can_post:
            raise bad("need administrator rights in the channel chat")
        if not chat.write_access or not chat.can_post:
            raise bad("have no write access to the chat")
        return chat


def check_member(chat: Chat, bot: Bot) -> None:
    """Check that the bot is a member."""
    status = chat.status(bot)
    if status == "kicked":
        raise forbidden(f"bot was kicked from the {chat.type} chat")
    if status == "left":
        raise forbidden(f"bot is not a member of the {chat.type} chat")


def check_kind(chat: Chat, kind: str) -> None:
    """Check that the chat accepts this kind: step 6."""
    if kind in chat.restricted:
        raise bad(f"not enough rights to send {RIGHTS[kind]} to the chat")
    if kind in chat.voice_forbidden:
        raise bad(f"user restricted receiving of {RIGHTS[kind].removesuffix('s')} messages")


def check_topic(chat: Chat, thread: int) -> None:
    """Check that a forum's topic exists and is open; none means General."""
    if not chat.topics:
        return
    if thread and thread != GENERAL and thread not in chat.topics:
        raise bad("message thread not found")
    if not chat.topics.get(thread or GENERAL, True):
        raise bad("TOPIC_CLOSED")


def check_delivery(chat: Chat, bot: Bot) -> None:
    """Check what only the recipient's side knows: step 7."""
    if chat.refuses:
        raise bad(chat.refuses)
    if chat.slow_mode:
        now = monotonic()
        wait = math.ceil(chat.wrote.get(bot.id, -math.inf) + chat.slow_mode - now)
        if wait > 0:
            raise bad(f"SLOWMODE_WAIT_{wait}")
        chat.wrote[bot.id] = now
    if chat.never_started:
        raise forbidden("bot can't initiate conversation with a user")
    if chat.blocked or bot.id in chat.blocked_bots:
        raise forbidden("bot was blocked by the user")
