"""Extraction of the chat id from one cell of a list, or the reason why it holds none."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Collection
from decimal import Decimal
from typing import NoReturn

from telewarm.database.recipients import RejectedRow
from telewarm.errors import UsageError
from telewarm.logs import redact
from telewarm.models import ChatId

MAX_CHAT_ID = 2**52  # Telegram's ids have at most 52 significant bits; those of groups and channels are negative
MAX_CELL_CHARACTERS = 64 << 10  # characters of one row
EXCERPT_CHARACTERS = 80  # characters
MAX_REDACTED_CHARACTERS = 400  # characters
BOT_COLUMN = "bot"  # column or key of a bot's slug

PLAIN_ID_PATTERN = re.compile(r"-?[0-9]{1,16}")
# Whitespace that str.strip keeps: zero-width and directional characters, common in copied text.
BLANKS = " \x1a\t\r\n\v\f\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u2066-\u206f\u3000\ufeff"
SURROUNDING_BLANKS = re.compile(rf"^[{BLANKS}]+|[{BLANKS}]+$")
EXCEL_TEXT = re.compile(r"""=?"(?P<formula>[^"]*)"|'(?P<text>[^']*)'?""")  # ="500000001", '500000001
BRACKETS = re.compile(r"^[\[({]+|[\])}]+$")
MINUS = re.compile(r"^[\u2010-\u2015\u2212\ufe63\uff0d]")  # replacements of the hyphen by word processors
INTEGER = re.compile(r"-?\d+")
NO_FRACTION = re.compile(r"(-?\d+)[.,](?:0{0,2}|0{4,})")  # 500000001.0, as pandas writes a column with gaps
PEER = re.compile(r"(user|channel|chat)(\d{1,16})")  # as Telegram Desktop exports them
USER_LINK = re.compile(r"tg://(?:user\?id|openmessage\?user_id|openmessage\?chat_id)=(-?\d{1,16})")
THOUSANDS = re.compile(rf"-?\d{{1,3}}(?:[.,'’_{BLANKS}]\d{{3}})+")

NO_ID = "there is no chat id"
OUT_OF_RANGE = "no chat has this id: it is 0, or beyond Telegram's range"
LOST_DIGITS = (
    "scientific notation: its last digits are lost; format the column as a whole number or as text,"
    " and save the list again"
)
NOT_NUMERIC = (
    "a username or link; only numeric chat ids are taken: a bot cannot write to people by name,"
    " and the id of a channel or group begins with -100"
)
GROUPED = "it has thousands separators; write the chat id with digits alone"
# Reasons why a text is not a chat id, by its shape; the first match applies.
REASONS = (
    (re.compile(r"-?\d+"), OUT_OF_RANGE),
    (re.compile(r"-?\d+([.,]\d+)?[eE][+-]?\d+"), LOST_DIGITS),
    (THOUSANDS, GROUPED),
    (re.compile(r"-?\d{5,}(?:[,;|\s]+-?\d{5,})+"), "several chat ids in one value; give each a value of its own"),
    (re.compile(r"-?\d*[.,]\d+"), "a decimal number; write the chat id as a whole number"),
    (re.compile(r".*(@|t\.me/|telegram\.(me|dog)/|tg://).*", re.DOTALL), NOT_NUMERIC),
    (re.compile(r"\+?\(?\d[\d ()/.-]*"), "a phone number; only Telegram's own chat ids are taken"),
)


class RowBuffer:
    """Rows that were read and not stored yet. `bots`: the slugs that a row may name; it need not name any."""

    def __init__(self, bots: Collection[str] = ()) -> None:
        self.chat_ids: list[ChatId] = []
        self.chat_ids_by_bot: dict[str, list[ChatId]] = {}
        self.rejected: list[RejectedRow] = []
        self.read = 0  # number of rows, valid and rejected
        self._bots = bots

    def drain(self) -> tuple[list[ChatId], dict[str, list[ChatId]], list[RejectedRow]]:
        """Return and remove everything."""
        held = self.chat_ids, self.chat_ids_by_bot, self.rejected
        self.chat_ids, self.chat_ids_by_bot, self.rejected = [], {}, []
        return held

    @property
    def held(self) -> int:
        """Number of rows held."""
        return len(self.chat_ids) + len(self.rejected) + sum(map(len, self.chat_ids_by_bot.values()))

    def add(self, number: int, value: object, *, excerpt: object, bot: object = None) -> None:
        """Add a row. `number`: of the line or element, from 1. `excerpt`: shown if the row is rejected."""
        try:
            chat_id = read_chat_id(value)
            mine = self.chat_ids if bot is None or bot == "" else self._ids_of_bot(bot)
        except UsageError as error:
            self.reject(number, error.message, excerpt)
        else:
            self.read += 1
            mine.append(chat_id)

    def reject(self, number: int, reason: str, excerpt: object) -> None:
        """Reject a row. `excerpt`: a text, or a value of JSON."""
        self.read += 1
        text = excerpt if isinstance(excerpt, str) else json.dumps(excerpt, ensure_ascii=False, default=str)
        self.rejected.append(RejectedRow(line=number, reason=reason, excerpt=printable(text)))

    def _ids_of_bot(self, bot: object) -> list[ChatId]:
        if not isinstance(bot, str) or bot not in self._bots:
            named = ", ".join(self._bots) or "none"
            raise UsageError(f"{printable(str(bot))!r} is no bot of this broadcast, which has {named}")
        return self.chat_ids_by_bot.setdefault(bot, [])


def read_chat_id(value: object) -> ChatId:
    """Return the chat id in a cell. Raises UsageError with the reason."""
    if isinstance(value, str):
        number = int(value) if PLAIN_ID_PATTERN.fullmatch(value) else _number_of(value)
    elif isinstance(value, bool) or value is None:
        raise UsageError(NO_ID)
    elif isinstance(value, (float, Decimal)):
        number = _number_of(str(value))
    else:
        try:
            number = operator.index(value)  # type: ignore[arg-type] # a whole number of any library
        except TypeError:
            raise UsageError("not a chat id; write it as a whole number") from None
    if not number or not -MAX_CHAT_ID <= number <= MAX_CHAT_ID:
        raise UsageError(OUT_OF_RANGE)
    return ChatId(number)


def holds_id(value: object) -> bool:
    """Return whether a cell holds a chat id."""
    try:
        read_chat_id(value)
    except UsageError:
        return False
    return True


def clean(text: str) -> str:
    """Remove what spreadsheets, programs and copying put around a number."""
    text = SURROUNDING_BLANKS.sub("", text)
    if quoted := EXCEL_TEXT.fullmatch(text):
        text = SURROUNDING_BLANKS.sub("", quoted["formula"] or quoted["text"] or "")
    return MINUS.sub("-", text)


def _number_of(given: str) -> int:
    """Parse a number in digits of any script, which are unambiguous. Raises UsageError."""
    text = clean(given)
    if INTEGER.fullmatch(text) is None:
        text = clean(BRACKETS.sub("", text))
    if INTEGER.fullmatch(text) and len(text) <= 17:
        return int(text)
    if found := NO_FRACTION.fullmatch(text):
        return int(found[1]) if len(found[1]) <= 17 else _refuse(found[1])
    if peer := PEER.fullmatch(text):
        return _of_export(peer[1], int(peer[2]))
    if link := USER_LINK.fullmatch(text):
        return int(link[1])
    return _refuse(text)


def _of_export(kind: str, number: int) -> int:
    """Return the chat id for Telegram Desktop's export, which has the kind before the number and no sign."""
    return {"user": number, "chat": -number, "channel": -(10**12) - number}[kind]


def _refuse(text: str) -> NoReturn:
    if not text:
        raise UsageError(NO_ID)
    for shape, reason in REASONS:
        if shape.fullmatch(text):
            raise UsageError(reason)
    raise UsageError("not a whole number")


def printable(text: str) -> str:
    """Return a short, printable excerpt of a list, with secrets masked: it may be a wrong file."""
    shown = redact(text[:MAX_REDACTED_CHARACTERS])[:EXCERPT_CHARACTERS]
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown)
