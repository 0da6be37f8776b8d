"""Values that callers of the library may give in place of our own types; a UsageError names the argument."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from math import isfinite
from typing import Any

from telewarm.errors import UsageError

MAX_BIGINT = 2**63 - 1
JsonScalar = str | int | float | bool | None
JSON_SCALAR_TYPES = frozenset({str, int, bool, type(None)})


def integer(argument: str, given: object, *, minimum: int = 1) -> int:
    """An id. Raises UsageError; True and False are no numbers."""
    if isinstance(given, bool) or not isinstance(given, int) or not minimum <= given <= MAX_BIGINT:
        raise UsageError(
            f"{argument} must be a whole number{' from 1' if minimum == 1 else ''}, not {describe_value(given)}"
        )
    return int(given)


def media_id(argument: str, given: object) -> int:
    """Of a media item: its id, or the item itself as `add` returns it. Raises UsageError."""
    if isinstance(given, int):
        return integer(argument, given)
    own = getattr(given, "id", None)
    if type(given).__name__ == "MediaItem" and isinstance(own, int):
        return integer(argument, own)
    raise UsageError(f"{argument} must be the id of a media item or the item itself, not {describe_value(given)}")


def to_json(argument: str, given: object) -> Any:  # noqa: ANN401 - JSON
    """JSON of mappings, lists and the objects of frameworks: those with `model_dump` (aiogram) or `to_dict`
    (python-telegram-bot). Raises UsageError.
    """
    if isinstance(given, Enum):
        given = given.value
    if isinstance(given, str):
        return str(given)
    if isinstance(given, float) and not isfinite(given):
        raise UsageError(f"{argument} holds {given}, which is no number to JSON")
    if isinstance(given, JsonScalar):
        return given
    if isinstance(given, Mapping):
        return {str(name): to_json(argument, value) for name, value in given.items() if not _is_unset(value)}
    if isinstance(given, Sequence) and not isinstance(given, bytes | bytearray | memoryview):
        return [to_json(argument, value) for value in given]
    if not isinstance(given, type):
        if callable(dump := getattr(given, "model_dump", None)):
            return to_json(argument, dump(exclude_none=True))
        if callable(dump := getattr(given, "to_dict", None)):
            return to_json(argument, dump())
    raise UsageError(
        f"{argument} must be a mapping or an object with model_dump or to_dict, not {describe_value(given)}"
    )


def _is_plain(given: object) -> bool:
    """JSON already, which is the most frequent: nothing is copied."""
    kind = type(given)
    if kind is dict:
        return all(type(name) is str and _is_plain(value) for name, value in given.items())  # type: ignore[attr-defined]
    if kind is list:
        return all(_is_plain(value) for value in given)  # type: ignore[attr-defined]
    return kind in JSON_SCALAR_TYPES or (kind is float and isfinite(given))  # type: ignore[arg-type]


def _is_unset(value: object) -> bool:
    """None, or aiogram's mark of a field that is left to its bot's defaults."""
    return value is None or type(value).__name__ == "Default"


def mapping(argument: str, given: object) -> Mapping[str, object] | None:
    """A JSON object; plain ones as they are. Raises UsageError."""
    if given is None:
        return None
    found = _finite(argument, given)
    if not isinstance(found, dict):
        raise UsageError(f"{argument} must be a mapping, not {describe_value(given)}")
    return found


def _finite(argument: str, given: object) -> Any:  # noqa: ANN401 - JSON
    try:
        return given if _is_plain(given) else to_json(argument, given)
    except RecursionError:
        raise UsageError(f"{argument} holds itself, or is nested too deep") from None


def mappings(argument: str, given: object) -> Sequence[Mapping[str, object]] | None:
    """A list of JSON objects. Raises UsageError."""
    if given is None:
        return None
    found = _finite(argument, given)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError(f"{argument} must be a list of mappings, not {describe_value(given)}")
    return found


def text(argument: str, given: object) -> str | None:
    """Plain text, also of what is nearly one, such as a `Safe`. Raises UsageError."""
    if given is None or type(given) is str:
        return given
    if isinstance(given, str):
        return str(given)
    raise UsageError(f"{argument} must be text, not {describe_value(given)}")


def preview(argument: str, given: object) -> Mapping[str, object] | str | bool | None:
    """A link preview: words, true or false, or a JSON object. Raises UsageError."""
    if isinstance(given, bool | str):
        return given
    if given is None:
        return None
    found = _finite(argument, given)
    if not isinstance(found, dict):
        raise UsageError(
            f"{argument} must be off, above, large, small, True, False, or a mapping, not {describe_value(given)}"
        )
    return found


def flag(argument: str, given: object) -> bool:
    """Raises UsageError for what is neither True nor False: "no" would be true."""
    if type(given) is not bool:
        raise UsageError(f"{argument} must be True or False, not {describe_value(given)}")
    return given


def seconds(argument: str, given: object) -> float:
    """From 0 on; endless ones too. Raises UsageError."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not given >= 0:
        raise UsageError(f"{argument} must be a number of seconds from 0, not {describe_value(given)}")
    return float(given)


def is_rate(given: object) -> bool:
    """A number above 0 that has an end."""
    return isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < math.inf


def required(argument: str, given: object) -> str:
    """Text, and some of it. Raises UsageError."""
    found = text(argument, given)
    if not found:
        raise UsageError(f"{argument} must be text, not {describe_value(given)}")
    return found


def to_list(argument: str, given: object) -> list[Any]:
    """A list, tuple, set or the like of values; no text. Raises UsageError."""
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | bytearray | memoryview | Mapping):
        return list(given)
    raise UsageError(f"{argument} must be a list, not {describe_value(given)}")


def names(argument: str, given: object) -> list[str]:
    """One text, or several. Raises UsageError."""
    if isinstance(given, str):
        return [required(argument, given)]
    return [required(argument, one) for one in to_list(argument, given)]


def describe_value(given: object) -> str:
    """What was given, for an error: short, and without its content where that may be anything."""
    if isinstance(given, str | int | float) or given is None:
        words = repr(given)
        return words if len(words) <= 40 else f"{words[:40]}…"
    return f"a {type(given).__name__}"
