"""State of a sandbox, and the creation of messages."""

from __future__ import annotations

import dataclasses
import hashlib
import os

from telewarm.sandbox.bots import Bot, Bots
from telewarm.sandbox.chats import Chat, Chats
from telewarm.sandbox.clock import Clock, monotonic
from telewarm.sandbox.config import Config
from telewarm.sandbox.faults import Faults
from telewarm.sandbox.fetch import Fetcher
from telewarm.sandbox.files import Files
from telewarm.sandbox.floods import Gate
from telewarm.sandbox.mail import Content, Mail, Message
from telewarm.sandbox.stats import Stats


class State:
    """State of a sandbox."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.started = monotonic()
        self.clock = Clock(config.clock_offset)
        self.bots = Bots()
        self.chats = Chats(self.bots)
        secret = hashlib.sha256(config.seed.to_bytes(8, "little", signed=True)).digest()
        self.files = Files(secret=secret, seed=config.seed, keep=config.keep_files)
        self.mail = Mail(keep_texts=config.keep_texts, keep_media=config.keep_media)
        self.gate = Gate(config.floods)
        self.faults = Faults()
        self.stats = Stats()
        self.fetcher = Fetcher()

    def configure(self, **changes: object) -> Config:
        """Change the configuration while the sandbox runs."""
        self.config = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]  # checked by replace
        self.clock.offset = self.config.clock_offset
        self.gate.floods = self.config.floods
        self.files.keep = self.config.keep_files
        self.mail.keep_texts = self.config.keep_texts
        self.mail.keep_media = self.config.keep_media
        return self.config

    def find_chat(self, bot: Bot, text: str) -> Chat:
        """Return the chat if the bot can see it."""
        return self.chats.find(bot, text, declared_only=self.config.declared_chats_only)

    def find_chat_for_post(self, bot: Bot, text: str) -> Chat:
        """Return the chat if the bot may post to it."""
        return self.chats.find_for_post(bot, text, declared_only=self.config.declared_chats_only)

    def charge(self, bot: Bot, chat: Chat, count: int = 1, *, follows: bool = False) -> None:
        """Count messages against the flood limits, or raise the 429."""
        now = monotonic()
        self.gate.prune(now)
        self.gate.charge(bot.id, chat.id, now, count, follows=follows)

    def post(self, bot: Bot, chat: Chat, content: Content) -> Message:
        """Post a message, the effect of a send: it is in the chat from now on."""
        message = self.mail.post(chat, self.clock.now(), content)
        self.stats.posted(bot.id, chat.id, "text" if content.file is None else content.file.kind)
        return message

    def reset(self) -> None:
        """Reset bots, chats, files, messages, floods, faults and statistics; the configuration stays."""
        for part in (self.bots, self.chats, self.files, self.mail, self.gate, self.faults, self.stats, self.fetcher):
            part.clear()


def salt() -> bytes:
    """Return sixteen bytes that make each message's file reference differ."""
    return os.urandom(16)
