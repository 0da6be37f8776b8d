"""JSON tables: objects of columns with cells by row, and objects of records by name. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from telewarm.broadcasts.columns import MAX_SURE_SCORE, ColumnChoice, choose_column, name_score, same_name
from telewarm.broadcasts.json_walk import KEYS_PATH, ROW_KEY, VALUES_PATH, Element
from telewarm.broadcasts.rows import holds_id

KEY_DEPTH = 4  # levels of objects in which an element's chat id is searched
DYNAMODB_TYPES = frozenset({"N", "S"})  # type keys of DynamoDB


def is_values(path: str | None) -> bool:
    """Return whether it is the path of an object's values."""
    return path is not None and (path == VALUES_PATH or path.endswith(f".{VALUES_PATH}"))


def shown_path(path: str | None) -> str:
    """Return the path as shown to people."""
    return (path or "").removesuffix(VALUES_PATH).removesuffix(".") if is_values(path) else path or ""


def is_cell(element: Element) -> bool:
    """Return whether the element is a cell of a table by columns."""
    return is_values(element.path) and not isinstance(element.value, dict)


def is_wanted(held: Sequence[Element], cell: Element, wanted: str | None) -> bool:
    """Return whether this cell's column is the one to choose, whatever the other columns are."""
    name = shown_path(cell.path)
    if wanted is not None:
        return same_name(name, wanted)
    alone = cell.path == VALUES_PATH  # beside row numbers at the top level there are no other columns
    return (alone or _sure(name)) and _readable([one.value for one in held if one.path == cell.path])


def column_of(held: Sequence[Element], wanted: str | None) -> tuple[str, ColumnChoice] | None:
    """Return the chat id column and its path; None when this is not a table by columns. Raises ColumnUnclear."""
    columns: dict[str, list[object]] = {}
    for one in held:
        if one.path is not None and is_cell(one):
            columns.setdefault(one.path, []).append(one.value)
    paths, names = list(columns), [shown_path(path) for path in columns]
    for path, name in zip(paths, names, strict=True):
        if wanted is not None and same_name(name, wanted):
            return path, ColumnChoice(column=0, name=name)
    if wanted is not None or not any(map(_readable, columns.values())) or _others(held):
        return None
    rows = list(zip_longest(*columns.values()))
    if names == [""]:
        return paths[0], choose_column(None, rows)
    if any(one.path == KEYS_PATH for one in held) and not any(_sure(name) for name in names):
        return None
    choice = choose_column(names, rows)
    return paths[choice.column or 0], choice


def _sure(name: str) -> bool:
    return (rank := name_score(name)) is not None and rank < MAX_SURE_SCORE


def _others(held: Sequence[Element]) -> bool:
    """Return whether recipients may be elsewhere: in arrays, or named at the top level."""
    for one in held:
        if one.path is None and isinstance(one.value, dict):
            if any(_sure(name) and holds_id(inner) for name, inner in one.value.items()):
                return True
        elif one.path not in {None, KEYS_PATH} and not is_values(one.path):
            return True
    return False


def records(held: Sequence[Element]) -> set[str]:
    """Return the paths of objects with similar values, each with a chat id, under keys without a meaning."""
    alone = [one.value for one in held if one.path is None]
    if len(alone) > 1:
        return set()
    found: dict[str, list[Element]] = {}
    for one in held:
        if one.path is not None and is_values(one.path):
            found.setdefault(one.path, []).append(one)
    return {path for path, elements in found.items() if _are_records(elements) and not _is_recipient(alone, path)}


def _is_recipient(alone: Sequence[object], path: str) -> bool:
    """Return whether the object of that path has a chat id itself, beside nested objects."""
    around = alone[0] if alone else None
    for key in path.split(".")[:-1]:
        around = around.get(key) if isinstance(around, dict) else None
    return isinstance(around, dict) and any(
        name_score(key) is not None and holds_id(value) for key, value in around.items()
    )


def _are_records(elements: Sequence[Element]) -> bool:
    values = [one.value for one in elements if isinstance(one.value, dict)]
    if len(values) < 2 or len(values) < len(elements) or any(name_score(one.key) is not None for one in elements):
        return False
    return 2 * sum(map(_has_id, values)) >= len(values)


def _has_id(value: Mapping[str, object]) -> bool:
    return any(
        holds_id(inner) and any(name_score(part) is not None for part in (name, name.split(".")[0]))
        for name, inner in flatten(value).items()
    )


def guess_of(keys: Sequence[str]) -> str | None:
    """Return why records by these keys are a guess; None when the keys are row numbers."""
    if all(ROW_KEY.fullmatch(key) for key in keys):
        return None
    return "the values of the JSON object were taken for a list of recipients"


def _readable(values: Sequence[object]) -> bool:
    return 2 * sum(map(holds_id, values)) >= len(values) > 0


def flatten(value: Mapping[str, object], path: str = "", depth: int = 1) -> dict[str, object]:
    """Flatten an object into values by path, without arrays.

    Unwraps MongoDB's `$numberLong` and DynamoDB's `N` and `S`.
    """
    flat: dict[str, object] = {}
    for key, inner in value.items():
        name = f"{path}{key}"
        if not isinstance(inner, dict):
            if not isinstance(inner, list):
                flat[name] = inner
        elif len(inner) == 1 and (next(iter(inner)).startswith("$number") or inner.keys() <= DYNAMODB_TYPES):
            flat[name] = next(iter(inner.values()))
        elif depth < KEY_DEPTH:
            flat |= flatten(inner, f"{name}.", depth + 1)
    return flat
