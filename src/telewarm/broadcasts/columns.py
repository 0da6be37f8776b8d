"""Choice of the column with the chat ids, by its name and its first values. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from telewarm.broadcasts.rows import clean, holds_id, printable, read_chat_id
from telewarm.errors import UsageError

SAMPLE_ROWS = 200  # rows examined before any is accepted
MIN_LIKELY_CHAT_ID = 10_000  # numbers below are more often row numbers and keys than chats
MAX_LIKELY_CHAT_ID = 10**10  # positive numbers above are more often phone numbers than chats, as of 2026
EVERY_COLUMN = "*"  # in place of a column: every cell holds a chat id

# Words of column names; a name counts when it has no other words.
APP_WORDS = ("telegrams", "telegramm", "telegram", "телеграмм", "телеграм", "tg", "тг")
CHAT_WORDS = ("conversas", "conversa", "chats", "chat", "peers", "peer", "чата", "чат")
RECIPIENT_WORDS = (
    "destinatarios", "destinatario", "subscribers", "subscriber", "recipients", "recipient", "utilisateur",
    "assinantes", "assinante", "customers", "customer", "usuarios", "usuario", "benutzer", "contatos", "contato",
    "contacts", "contact", "clientes", "cliente", "clients", "client", "membros", "membro", "members", "member",
    "channels", "channel", "canales", "canais", "canal", "groups", "group", "grupos", "grupo", "users", "user",
    "sender", "actor", "from", "пользователя", "пользователи", "пользователь",
)  # fmt: skip
ID_WORDS = ("identificador", "identifier", "ids", "id", "айди", "ид")
FILLER_WORDS = ("numeric", "number", "account", "conta", "the", "del", "do", "da", "de", "of", "no")
WORD_PATTERN = re.compile("|".join((*APP_WORDS, *CHAT_WORDS, *RECIPIENT_WORDS, *ID_WORDS, *FILLER_WORDS)))
NAME_PATTERN = re.compile(f"(?:{WORD_PATTERN.pattern})+")
PHONE_PATTERN = re.compile(r"phone|fone|telef|celular|mobile|movil|handy|whatsapp|zap|телефон|номер")
INTEGER_PATTERN = re.compile(r"\d{1,16}")
TOO_SMALL = "its numbers are too small for chat ids"
MAX_SURE_SCORE = 3  # scores up to this: nothing but a chat id has such a name


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnChoice:
    """The chosen column.

    `column`: its index; None for every cell. `name`: as in the header, or its number from 1, or None for the only
    column. `guess`: why a person should check it before sending; None when there is no doubt.
    """

    column: int | None
    name: str | None
    guess: str | None = None


class ColumnUnclear(UsageError):
    """The list does not show which of its columns holds the chat ids."""


def name_score(name: str) -> int | None:
    """Return how surely a column of that name holds chat ids, 0 the surest; None: no hint.

    A name with dots is the path to a value within an object.
    """
    parts = [plain for part in name.split(".") if (plain := _normalized_name(part))]
    if not parts:
        return None
    found = [rank for text in (parts[-1], "".join(parts[-2:])) if (rank := _score(text)) is not None]
    return min(found, default=None)


def _score(plain: str) -> int | None:
    if plain == "uid":
        return 4
    if NAME_PATTERN.fullmatch(plain) is None:
        return None
    words = set(WORD_PATTERN.findall(plain))
    app, chat, who, number = (bool(words & set(group)) for group in (APP_WORDS, CHAT_WORDS, RECIPIENT_WORDS, ID_WORDS))
    ranks = (
        (chat and number, 0),
        (app and number, 1),
        (app, 2),
        (who and number, 4),
        (chat or who, 5),
        (number, 6),
    )
    return next((rank for true, rank in ranks if true), None)


def _normalized_name(name: str) -> str:
    """Reduce a name to letters and digits, without case and accents."""
    split = unicodedata.normalize("NFKD", name.casefold()).replace("и\u0306", "й")
    return "".join(letter for letter in split if letter.isalnum())


def same_name(one: str, other: str) -> bool:
    """Return whether two names differ in case, accents and punctuation only."""
    return one.strip() == other.strip() or (_normalized_name(one) == _normalized_name(other) != "")


def best_name(names: Sequence[str]) -> int | None:
    """Return the index of the likeliest name; of equal ones the first, of paths the shortest."""
    ranked = [(rank, name.count("."), at) for at, name in enumerate(names) if (rank := name_score(name)) is not None]
    return min(ranked)[2] if ranked else None


def choose_column(names: Sequence[str] | None, rows: Sequence[Sequence[object]]) -> ColumnChoice:
    """Choose by the names of a header, if there is one, and the first rows. Raises ColumnUnclear."""
    columns = _columns(rows, least=len(names or ()))
    if names is not None and (found := _by_name(names, columns)) is not None:
        return found
    filled = [at for at, values in enumerate(columns) if values]
    if len(filled) <= 1:
        return _only_one(names, columns, filled[0] if filled else 0)
    return _by_values(names, columns, filled)


def are_row_numbers(values: Sequence[object]) -> bool:
    """Return whether the values are 0, 1, 2, … or 1, 2, 3, …: row numbers."""
    texts = [clean(str(value)).removesuffix(".0") for value in values]
    if len(texts) < 2 or not all(map(INTEGER_PATTERN.fullmatch, texts)):
        return False
    first = int(texts[0])
    return first in {0, 1} and all(int(text) == number for number, text in enumerate(texts, first))


def _columns(rows: Sequence[Sequence[object]], *, least: int) -> list[list[object]]:
    """Return the non-empty values by column."""
    width = max([least, *map(len, rows)], default=0)
    return [[row[at] for row in rows if at < len(row) and not _empty(row[at])] for at in range(width)]


def _empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not clean(value))


def _readable(values: Sequence[object]) -> bool:
    return 2 * sum(map(holds_id, values)) >= len(values)


def _doubt(values: Sequence[object]) -> str | None:
    """Return the reason against these being chat ids; None: none."""
    numbers = [read_chat_id(value) for value in values if holds_id(value)]
    if are_row_numbers(values):
        return "its values count up from 0 or 1, as row numbers do"
    if numbers and max(map(abs, numbers)) < MIN_LIKELY_CHAT_ID:
        return TOO_SMALL
    if numbers and min(numbers) >= MAX_LIKELY_CHAT_ID:
        return "its numbers are longer than chat ids; they may be phone numbers"
    return None


def _by_name(names: Sequence[str], columns: Sequence[Sequence[object]]) -> ColumnChoice | None:
    named = {at: rank for at, name in enumerate(names) if (rank := name_score(name)) is not None}
    if not named:
        return None
    order = sorted(named, key=lambda at: (named[at], names[at].count("."), at))
    readable = [at for at in order if _readable(columns[at])]
    at = next(
        (at for at in readable if named[at] < MAX_SURE_SCORE or _doubt(columns[at]) is None), (readable or order)[0]
    )
    values, name = columns[at], _label(names, at)
    doubt = _doubt(values)
    if named[at] < MAX_SURE_SCORE and doubt == TOO_SMALL:
        doubt = None
    others = [other for other in _likely(columns) if other != at and other not in named]
    if doubt is None and named[at] >= MAX_SURE_SCORE and others:
        doubt = f"column {_label(names, others[0])!r} holds such numbers, too"
    if doubt is not None and named[at] >= MAX_SURE_SCORE:
        if len(others) == 1 and not _likely([values]):
            return ColumnChoice(column=others[0], name=_label(names, others[0]), guess=_unnamed(names, others[0]))
        if are_row_numbers(values):
            raise ColumnUnclear(_row_numbers(name))
    return ColumnChoice(column=at, name=name, guess=doubt and f"column {name!r}: {doubt}")


def _only_one(names: Sequence[str] | None, columns: Sequence[Sequence[object]], at: int) -> ColumnChoice:
    """Choose a column when no other column has values."""
    values = columns[at] if columns else []
    name = None if names is None else _label(names, at)
    if are_row_numbers(values):
        raise ColumnUnclear(_row_numbers(name))
    rank = None if name is None else name_score(name)
    doubt = _doubt(values)
    return ColumnChoice(
        column=at, name=name, guess=None if rank is not None and rank < MAX_SURE_SCORE and doubt == TOO_SMALL else doubt
    )


def doubt_of_ids(values: Sequence[str]) -> str | None:
    """Return why a person should check a list of nothing but numbers; None when there is no doubt."""
    return _doubt(values)


def _by_values(names: Sequence[str] | None, columns: Sequence[Sequence[object]], filled: Sequence[int]) -> ColumnChoice:
    readable = [at for at in filled if _readable(columns[at]) and not _is_phone(names, at)]
    likely = [at for at in _likely(columns) if at in readable]
    likely = likely or [at for at in readable if _doubt(columns[at]) == TOO_SMALL]
    if len(likely) == 1:
        [at] = likely
        return ColumnChoice(column=at, name=_label(names, at), guess=_unnamed(names, at))
    if likely:
        listed = ", ".join(repr(_label(names, at)) for at in likely)
        raise ColumnUnclear(
            f"columns {listed} hold numbers that may be chat ids; {_say_column(_label(names, likely[0]))}"
        )
    if readable and are_row_numbers(columns[readable[0]]):
        raise ColumnUnclear(_row_numbers(_label(names, readable[0])))
    listed = ", ".join(repr(_label(names, at)) for at in filled[:10])
    raise ColumnUnclear(f"none of the columns {listed} holds chat ids in the first rows; {_say_column('NAME')}")


def _likely(columns: Sequence[Sequence[object]]) -> list[int]:
    return [at for at, values in enumerate(columns) if values and _readable(values) and _doubt(values) is None]


def _is_phone(names: Sequence[str] | None, at: int) -> bool:
    return names is not None and at < len(names) and PHONE_PATTERN.search(_normalized_name(names[at])) is not None


def _label(names: Sequence[str] | None, at: int) -> str:
    name = printable(clean(names[at])) if names is not None and at < len(names) else ""
    return name or str(at + 1)


def _unnamed(names: Sequence[str] | None, at: int) -> str:
    if names is None:
        return f"there is no header; column {at + 1} is the one with numbers like chat ids"
    return f"no column is called chat_id; {_label(names, at)!r} is the one with numbers like chat ids"


def _row_numbers(name: str | None) -> str:
    which = "the numbers" if name is None else f"the values of column {name!r}"
    return f"{which} count up from 0 or 1: row numbers, not chats, it seems; {_say_column(name or '1')}"


def _say_column(name: str) -> str:
    return f"say which column holds the chat ids: --column {name}, column={name}"
