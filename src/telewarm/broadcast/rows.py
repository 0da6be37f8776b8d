"""What one row of a list says: a chat id, or why it holds none."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NoReturn

from telewarm.database.recipients import Rejected
from telewarm.errors import UsageError
from telewarm.logs import redact
from telewarm.model import ChatId

LARGEST = 2**52  # Telegram's ids have at most 52 significant bits; groups and channels are below zero
LONGEST = 64 << 10  # bytes of one row
EXCERPT = 80  # characters
LOOKED_AT = 400  # characters
PLAIN = re.compile(r"-?[0-9]{1,16}")
# Names of the column or the key that holds the chat id, the surest first, without case, blanks and punctuation.
NAMES = ("chatid", "telegramid", "tgid", "telegramuserid", "telegramchatid", "userid", "peerid", "chat", "id")
BOT = "bot"


class Rows:
    """What was read of a list and not yet stored. `bots`: the slugs that a row may name; it need not name any."""

    def __init__(self, bots: Collection[str] = ()) -> None:
        self.chat_ids: list[ChatId] = []
        self.of_bots: dict[str, list[ChatId]] = {}
        self.rejected: list[Rejected] = []
        self.read = 0  # in all, good and bad
        self._bots = bots
        self._keys: dict[tuple[object, ...], str | None] = {}

    def drain(self) -> tuple[list[ChatId], dict[str, list[ChatId]], list[Rejected]]:
        """Everything that is held, once."""
        held = self.chat_ids, self.of_bots, self.rejected
        self.chat_ids, self.of_bots, self.rejected = [], {}, []
        return held

    @property
    def held(self) -> int:
        return len(self.chat_ids) + len(self.rejected) + sum(map(len, self.of_bots.values()))

    def extend(self, chat_ids: list[ChatId]) -> None:
        self.read += len(chat_ids)
        self.chat_ids += chat_ids

    def take(self, number: int, value: object, *, excerpt: str, bot: object = None) -> None:
        """`number`: of the line or the element, from 1. `excerpt`: what to show of it when it is rejected."""
        try:
            chat_id = read_chat_id(value)
            mine = self._of(bot)
        except UsageError as error:
            self.reject(number, error.message, excerpt)
        else:
            self.read += 1
            mine.append(chat_id)

    def take_json(self, number: int, value: object, *, excerpt: str) -> None:
        """A chat id, or an object that holds one."""
        if not isinstance(value, dict):
            self.take(number, value, excerpt=excerpt)
        elif (key := self.key_of(value)) is None:
            self.reject(number, "the object has no chat_id, telegram_id, user_id or id", excerpt)
        else:
            self.take(number, value[key], excerpt=excerpt, bot=value.get(BOT))

    def key_of(self, row: Mapping[object, object]) -> str | None:
        """The key under which an object has its chat id. Objects of one list are much alike: found once, remembered."""
        shape = tuple(row)
        if shape not in self._keys:
            if len(self._keys) >= 1000:
                self._keys.clear()
            self._keys[shape] = column_of([str(key) for key in shape])[0]
        return self._keys[shape]

    def reject(self, number: int, reason: str, excerpt: str) -> None:
        self.read += 1
        self.rejected.append(Rejected(line=number, reason=reason, excerpt=printable(excerpt)))

    def _of(self, bot: object) -> list[ChatId]:
        if bot is None or bot == "":
            return self.chat_ids
        if not isinstance(bot, str) or bot not in self._bots:
            named = ", ".join(self._bots) or "none"
            raise UsageError(f"{printable(str(bot))!r} is no bot of this broadcast, which has {named}")
        return self.of_bots.setdefault(bot, [])


def column_of(names: list[str]) -> tuple[str | None, int]:
    """The name that says chat id most surely, and its place; (None, 0) when none does."""
    plain = [re.sub(r"[\W_]", "", name).lower() for name in names]
    for wanted in NAMES:
        if wanted in plain:
            return names[plain.index(wanted)], plain.index(wanted)
    return None, 0


def read_chat_id(value: object) -> ChatId:
    """Raises UsageError with the reason."""
    if isinstance(value, str):
        text = value.strip()
        if not PLAIN.fullmatch(text):
            _refuse(text)
        value = int(text)
    if isinstance(value, bool) or value is None:
        raise UsageError("there is no chat id")
    if isinstance(value, float):
        raise UsageError("a decimal number; write the chat id as a whole number")
    if not isinstance(value, int):
        raise UsageError("not a chat id; write it as a whole number")
    if not value or not -LARGEST <= value <= LARGEST:
        raise UsageError("no chat has this id: it is 0, or beyond Telegram's range")
    return ChatId(value)


def _refuse(text: str) -> NoReturn:
    if not text:
        raise UsageError("there is no chat id")
    if text.startswith("@") or "t.me/" in text:
        raise UsageError("a username or link; only numeric chat ids are taken")
    if re.fullmatch(r"\+[\d ()-]+", text):
        raise UsageError("a phone number; only Telegram's own chat ids are taken")
    if re.fullmatch(r"-?[0-9]+", text):
        raise UsageError("no chat has this id: it is 0, or beyond Telegram's range")
    if re.fullmatch(r"-?[0-9]*[.,]?[0-9]+([eE][+-]?[0-9]+)?", text):
        raise UsageError("a decimal number; write the chat id as a whole number")
    raise UsageError("not a whole number")


def printable(text: str) -> str:
    """What to show of a list. Perhaps it is a wrong file with secrets in it, which may be longer than what is shown."""
    shown = redact(text[:LOOKED_AT])[:EXCERPT]
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown)
