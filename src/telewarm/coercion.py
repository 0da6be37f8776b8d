"""Coercion of arguments that callers of the library may give in place of our types. A UsageError names the argument."""

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
    """Return an id. Raises UsageError, also for True and False."""
    if isinstance(given, bool) or not isinstance(given, int) or not minimum <= given <= MAX_BIGINT:
        raise UsageError(
            f"{argument} must be a whole number{' from 1' if minimum == 1 else ''}, not {describe_value(given)}"
        )
    return int(given)


def media_id(argument: str, given: object) -> int:
    """Return the id of a media item, given by id or as the item. Raises UsageError."""
    if isinstance(given, int):
        return integer(argument, given)
    own = getattr(given, "id", None)
    if type(given).__name__ == "MediaItem" and isinstance(own, int):
        return integer(argument, own)
    raise UsageError(f"{argument} must be the id of a media item or the item itself, not {describe_value(given)}")


def to_json(argument: str, given: object) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of mappings, lists and framework objects. Raises UsageError.

    Supports objects with `model_dump` (aiogram) or `to_dict` (python-telegram-bot).
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
    """Return whether a value is JSON already, as most are: it is not copied."""
    kind = type(given)
    if kind is dict:
        return all(type(name) is str and _is_plain(value) for name, value in given.items())  # type: ignore[attr-defined]
    if kind is list:
        return all(_is_plain(value) for value in given)  # type: ignore[attr-defined]
    return kind in JSON_SCALAR_TYPES or (kind is float and isfinite(given))  # type: ignore[arg-type]


def _is_unset(value: object) -> bool:
    """Return whether a value is None, or aiogram's mark of a field that has the bot's default."""
    return value is None or type(value).__name__ == "Default"


def mapping(argument: str, given: object) -> Mapping[str, object] | None:
    """Return a JSON object; plain ones unchanged. Raises UsageError."""
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
    """Return a list of JSON objects. Raises UsageError."""
    if given is None:
        return None
    found = _finite(argument, given)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError(f"{argument} must be a list of mappings, not {describe_value(given)}")
    return found


def text(argument: str, given: object) -> str | None:
    """Return plain text, also of subclasses of str such as `SafeText`. Raises UsageError."""
    if given is None or type(given) is str:
        return given
    if isinstance(given, str):
        return str(given)
    raise UsageError(f"{argument} must be text, not {describe_value(given)}")


def preview(argument: str, given: object) -> Mapping[str, object] | str | bool | None:
    """Return a link preview: words, a boolean, or a JSON object. Raises UsageError."""
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
    """Return a boolean. Raises UsageError for other types: "no" would be true."""
    if type(given) is not bool:
        raise UsageError(f"{argument} must be True or False, not {describe_value(given)}")
    return given


def seconds(argument: str, given: object) -> float:
    """Return seconds from 0 on, also infinite. Raises UsageError."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not given >= 0:
        raise UsageError(f"{argument} must be a number of seconds from 0, not {describe_value(given)}")
    return float(given)


def is_rate(given: object) -> bool:
    """Return whether a value is a finite number above 0."""
    return isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < math.inf


def required(argument: str, given: object) -> str:
    """Return text that is not empty. Raises UsageError."""
    found = text(argument, given)
    if not found:
        raise UsageError(f"{argument} must be text, not {describe_value(given)}")
    return found


def to_list(argument: str, given: object) -> list[Any]:
    """Return a list, tuple, set or other collection as a list, but not text. Raises UsageError."""
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | bytearray | memoryview | Mapping):
        return list(given)
    raise UsageError(f"{argument} must be a list, not {describe_value(given)}")


def names(argument: str, given: object) -> list[str]:
    """Return one or several texts as a list. Raises UsageError."""
    if isinstance(given, str):
        return [required(argument, given)]
    return [required(argument, one) for one in to_list(argument, given)]


def describe_value(given: object) -> str:
    """Describe a value for an error message: short, without content that may be secret."""
    if isinstance(given, str | int | float) or given is None:
        words = repr(given)
        return words if len(words) <= 40 else f"{words[:40]}…"
    return f"a {type(given).__name__}"
