"""JSON objects that are lists: tables by column, records by their names or numbers."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from telewarm.broadcasts.recipients import ListFormat, RecipientReader
from tests.broadcast.test_recipients import read

A, B, C = 500000001, 500000002, -1001234567890
CHATS = [A, B, C]


def by_row(values: list[object], first: int = 0) -> dict[str, object]:
    return {str(number): value for number, value in enumerate(values, first)}


@pytest.mark.parametrize("first", [0, 7, 9_999, 20_011])
@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"chat_id": CHATS, "name": ["Ann", "Bo", "Cy"]}, "chat_id"),
        ({"name": ["Ann", "Bo", "Cy"], "id": [1, 2, 3], "phone": [5511912345678] * 3, "tg": CHATS}, "tg"),
        ({"age": [30, 31, 32], "telegram_id": CHATS, "user_id": [11, 12, 13]}, "telegram_id"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_pandas_writes_an_object_for_each_column(
    columns: dict[str, list[object]], chosen: str, first: int, end: str
) -> None:
    text = json.dumps({name: by_row(values, first) for name, values in columns.items()}) + end

    found = read(text.encode())

    assert (found.chat_ids, found.rejected, found.error) == (CHATS, [], None)
    assert (found.column, found.guess) == (chosen, None)


def test_a_column_that_is_not_named_is_a_guess_and_two_of_them_are_asked_about() -> None:
    one = read(json.dumps({"name": by_row(["a", "b"]), "ref": by_row([A, B])}).encode())
    two = read(json.dumps({"ref": by_row([A, B]), "other": by_row([B, A])}).encode())
    said = read(json.dumps({"ref": by_row([A, B]), "other": by_row([B, A])}).encode(), column="other")

    assert (one.chat_ids, one.column) == ([A, B], "ref")
    assert one.guess is not None
    assert two.chat_ids == []
    assert "'ref', 'other'" in str(two.error)
    assert (said.chat_ids, said.guess) == ([B, A], None)


@pytest.mark.parametrize("count", [3, 150_000])
@pytest.mark.slow
def test_tables_by_column_may_be_of_any_length(count: int) -> None:
    chats = list(range(A, A + count))
    frame = {"name": by_row(["Ann"] * count), "chat_id": by_row([*chats]), "age": by_row([30] * count)}

    assert read(json.dumps(frame).encode()).chat_ids == chats
    assert read(json.dumps(by_row([*chats])).encode()).chat_ids == chats
    records = by_row([{"name": "Ann", "chat_id": chat} for chat in chats])
    assert read(json.dumps(records).encode()).chat_ids == chats


def test_a_long_column_that_is_not_named_is_to_be_said() -> None:
    text = json.dumps({"ref": by_row([*range(A, A + 1000)]), "name": by_row(["Ann"] * 1000)}).encode()

    assert "--column ref" in str(read(text).error)
    assert len(read(text, column="ref").chat_ids) == 1000


def test_pandas_splits_columns_and_rows() -> None:
    found = read(json.dumps({"columns": ["name", "chat_id"], "index": [0, 1], "data": [["a", A], ["b", B]]}).encode())

    assert found.chat_ids == [A, B]
    assert found.guess is not None


@pytest.mark.parametrize("form", [None, ListFormat.JSON])
@pytest.mark.parametrize(
    ("value", "column", "asked"),
    [
        ({"0": {"chat_id": A}, "1": {"chat_id": B}}, "chat_id", False),
        ({"17": {"user": {"id": A}}, "40": {"user": {"id": B}}}, "user.id", False),
        ({"-Nx1": {"chat_id": A, "name": "Ann"}, "-Nx2": {"chat_id": B}}, "chat_id", True),
        ({"users": {"ann": {"telegram_id": A}, "bob": {"telegram_id": B}}}, "users.telegram_id", True),
        ({"ann": {"id": A}, "bob": {"id": B}}, "id", True),
    ],
)
def test_records_by_their_names_are_all_read(
    value: object,
    column: str,
    asked: bool,  # noqa: FBT001
    form: ListFormat | None,
) -> None:
    found = read(json.dumps(value).encode(), form=form)

    assert (found.chat_ids, found.rejected, found.error, found.column) == ([A, B], [], None, column)
    assert (found.guess is not None) is asked


@pytest.mark.parametrize(
    "value",
    [
        {"from": {"id": A, "name": "Ann"}, "chat": {"id": A}},
        {"chat_id": A, "address": {"id": 7}, "company": {"id": 8}},
        {"ok": True, "result": {"id": A}},
    ],
)
def test_one_object_with_objects_in_it_is_one_recipient(value: object) -> None:
    assert read(json.dumps(value).encode()).chat_ids == [A]


def test_what_dynamodb_writes_is_read_and_its_count_is_no_chat() -> None:
    items = [{"chat_id": {"N": str(chat)}, "name": {"S": "Ann"}} for chat in (A, B)]

    found = read(json.dumps({"Items": items, "Count": 2, "ScannedCount": 2}).encode())

    assert (found.chat_ids, found.rejected, found.column) == ([A, B], [], "Items.chat_id")


@pytest.mark.slow
def test_a_long_table_by_column_takes_no_more_memory_than_a_short_one() -> None:
    peaks = []
    for count in (5_000, 40_000):
        reader, taken = RecipientReader(None), 0
        pieces = [f'"{row}":"Ann",' for row in range(count)], [f'"{row}":{A + row},' for row in range(count)]
        tracemalloc.start()
        for begin, cells in zip(('{"name":{', '"z":""},"chat_id":{'), pieces, strict=True):
            for _ in reader.feed(begin.encode()):
                pass
            for at in range(0, count, 500):
                for _ in reader.feed("".join(cells[at : at + 500]).encode()):
                    pass
                taken += len(reader.rows.drain()[0])
        for _ in reader.feed(b'"x":0}}'):
            pass
        reader.end()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert taken + len(reader.rows.chat_ids) == count

    assert peaks[1] < 1.3 * peaks[0]
