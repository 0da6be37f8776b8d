"""Lists of chat ids, as people have them."""

from __future__ import annotations

import itertools
import json
import re
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.broadcasts.recipients import ListFormat, RecipientReader, rows_of, sniff
from telewarm.broadcasts.rows import MAX_CELL_CHARACTERS, MAX_CHAT_ID, RowBuffer, printable
from telewarm.database.recipients import RejectedRow
from telewarm.errors import UsageError
from telewarm.models import ChatId

CSV, NDJSON, JSON = ListFormat.CSV, ListFormat.NDJSON, ListFormat.JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    chat_ids: Sequence[int]
    of_bots: dict[str, list[int]]
    rejected: Sequence[RejectedRow]
    error: str | None
    column: str | None
    guess: str | None


def read(*chunks: bytes, form: ListFormat | None = None, bots: Sequence[str] = (), column: str | None = None) -> Read:
    reader = RecipientReader(form, bots=bots, column=column)
    error = None
    try:
        for chunk in chunks:
            for _ in reader.feed(chunk):
                pass
        reader.end()
    except UsageError as refused:
        error = refused.message
    chat_ids, of_bots, rejected = reader.rows.drain()
    return Read(
        chat_ids=[int(chat_id) for chat_id in chat_ids],
        of_bots={bot: [int(chat_id) for chat_id in theirs] for bot, theirs in of_bots.items()},
        rejected=rejected,
        error=error,
        column=reader.facts.column,
        guess=reader.facts.guess,
    )


def ids(text: str, form: ListFormat | None = None) -> Sequence[int]:
    """Of a list in which nothing may be wrong."""
    found = read(text.encode(), form=form)
    assert (found.rejected, found.error) == ([], None)
    return found.chat_ids


@pytest.mark.parametrize(
    "text",
    [
        "1\n-1002\n3",
        "1\r\n-1002\r\n3\r\n",
        "\n\n1\n\n-1002\n \n3\n\n",
        "\ufeff1\n-1002\n3\n",
        '"1"\n"-1002"\n"3"\n',
        " 1\n-1002 \n\t3\n",
        "chat_id\n1\n-1002\n3\n",
        "\ufeffchat_id\r\n1\r\n-1002\r\n3\r\n",
        "1,Ann,en\n-1002,Bo,de\n3,,\n",
        "name,Chat ID,lang\nAnn,1,en\nBo,-1002,de\n,3,\n",
        "name;telegram_id\nAnn, B;1\nBo;-1002\n;3\n",
        "id\tuser_id\n7\t1\n8\t-1002\n9\t3\n",
        '"name, first","chat_id"\n"Ann, ""A""",1\n"Bo",-1002\nCy,"3"\n',
        'bio,id\n"two\nlines",1\n"a ""quoted""\r\n\r\nword, and more",-1002\nplain,3\n',
        'id,size\n1,6" wide\n-1002,5"\n3,\n',
        'name,id\n"Ann",1\n\n"Bo",-1002\n"Cy",3',
        "id,name\n1\n-1002\n3\n",
    ],
)
def test_a_csv_list_is_read_with_or_without_a_header(text: str) -> None:
    assert ids(text) == [1, -1002, 3]


@pytest.mark.parametrize(
    ("header", "place"),
    [
        ("id,user_id,chat_id", 2),
        ("id,telegram_id,user_id", 1),
        ("id,UserId", 1),
        ("name,Telegram ID", 1),
        ("x,TG-ID", 1),
    ],
)
def test_the_column_is_the_one_whose_name_says_chat_id_most_surely(header: str, place: int) -> None:
    row = ["7"] * len(header.split(","))
    row[place] = "42"
    assert ids(f"{header}\n{','.join(row)}\n") == [42]


@pytest.mark.parametrize(
    "text",
    [
        '1\n"-1002"\n3\n',
        '{"chat_id": 1}\n{"chat_id": "-1002", "name": "Bo"}\n{"name": "Cy", "user_id": 3}\n',
        '\ufeff{"id": 1}\r\n\r\n -1002 \n{"chatId":3}',
        '{"id": 7, "telegram_id": 1}\n{"telegram_id": -1002}\n"3"',
    ],
)
def test_an_ndjson_list_has_numbers_texts_or_objects(text: str) -> None:
    assert ids(text, NDJSON) == [1, -1002, 3]


@pytest.mark.parametrize(
    "text",
    [
        "[1,-1002,3]",
        ' \n[ 1 ,\n "-1002"\n,3 ]\n ',
        '[{"chat_id": 1, "tags": [5, {"a": "]},["}]}, {"user_id": "-1002"}, 3]',
        '\ufeff[1, {"name": "\\"}, 9, [", "id": -1002}, "3"]',
    ],
)
def test_a_json_array_has_them_too(text: str) -> None:
    assert ids(text) == [1, -1002, 3]


def test_a_list_may_be_empty() -> None:
    assert [ids(text) for text in ("", "\n\n", "chat_id\n", "[]", " [ ] ")] == [[]] * 5
    assert ids("", NDJSON) == []


@pytest.mark.parametrize(
    ("begin", "form"),
    [
        ("1\n", CSV),
        ("chat_id", CSV),
        ('"1"', CSV),
        ("[1", JSON),
        ("[\n", JSON),
        ("['1', '2']", CSV),
        ("{1, 2}", CSV),
        ('{"id": 1}\n{"id"', NDJSON),
        ('{"id": 1', JSON),
        ('{\n "id": 1}', JSON),
        ("", CSV),
    ],
)
def test_the_format_is_told_by_the_first_line(begin: str, form: ListFormat) -> None:
    assert sniff(begin) is form


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("0", "no chat has this id"),
        ("-0", "no chat has this id"),
        (str(MAX_CHAT_ID + 1), "beyond Telegram's range"),
        (str(-MAX_CHAT_ID - 1), "beyond Telegram's range"),
        ("12345678901234567890123", "beyond Telegram's range"),
        ("@durov", "only numeric chat ids"),
        ("https://t.me/durov", "only numeric chat ids"),
        ("+55 11 91234-5678", "a phone number"),
        ("1.5", "a decimal number"),
        ("0,5", "a decimal number"),
        ("1.2E+09", "scientific notation"),
        ("5,00E+08", "scientific notation"),
        ("1_000", "thousands separators"),
        ("500.000.001", "thousands separators"),
        ("500 000 001", "thousands separators"),
        ("500\u00a0000\u00a0001", "thousands separators"),
        ("(11) 91234-5678", "a phone number"),
        ("0x1f", "not a whole number"),
        ("--1", "not a whole number"),
        ("500000001,500000002", "several chat ids in one value"),
        ("²", "not a whole number"),
        ("Ann", "not a whole number"),
    ],
)
def test_what_is_no_chat_id_is_rejected_with_its_line_and_the_reason(word: str, reason: str) -> None:
    as_json = json.dumps(word)
    lists = [
        read(f"5\n{json.dumps(word, ensure_ascii=False)}\n6\n".encode()),
        read(f'chat_id,name\n5,a\n\n"{word}",b\n6,c\n'.encode()),
        read(f"5\n{as_json}\n6\n".encode(), form=NDJSON),
        read(f'{{"id": 5}}\n{{"id": {as_json}}}\n6\n'.encode(), form=NDJSON),
        read(f"[5, {as_json}, 6]".encode()),
    ]

    assert [found.chat_ids for found in lists] == [[5, 6]] * 5
    assert [[bad.line for bad in found.rejected] for found in lists] == [[2], [4], [2], [2], [2]]
    assert all(reason in found.rejected[0].reason for found in lists), lists
    assert all(printable(word) in found.rejected[0].excerpt for found in lists[:2])


@pytest.mark.parametrize(
    "word", ["true", "false", "null", "1.5", "1e3", "[[1]]", "{}", '{"name": 4}', '{"id": null}', '"x"']
)
def test_json_that_is_no_chat_id_is_rejected(word: str) -> None:
    for found in (read(f"5\n{word}\n6\n".encode(), form=NDJSON), read(f"[5,{word},6]".encode())):
        assert found.chat_ids == [5, 6]
        assert [(bad.line, bad.excerpt.lower().replace("+", "")) for bad in found.rejected] == [(2, word.strip('"'))]


def test_a_row_that_lacks_the_column_or_leaves_it_empty_is_rejected() -> None:
    found = read(b"name,id\nAnn,1\nBo\nCy,\nDi,4\n")

    assert found.chat_ids == [1, 4]
    assert [(bad.line, bad.reason) for bad in found.rejected] == [
        (3, "the row has no column 2"),
        (4, "there is no chat id"),
    ]


def test_a_first_line_that_names_no_column_is_reported_and_not_lost() -> None:
    found = read(b"who\n5\n7\n")

    assert found.chat_ids == [5, 7]
    assert [bad.line for bad in found.rejected] == [1]


def test_a_quote_that_is_never_closed_costs_its_own_row_alone() -> None:
    found = read(b'id,name\n1,Ann\n2,"Bo\n3,Cy\n4,"Di"x\n5,Ed\n')

    assert found.chat_ids == [1, 3, 5]
    assert [bad.line for bad in found.rejected] == [3, 5]


def test_a_quote_that_swallows_too_much_costs_its_own_row_alone() -> None:
    rows = "".join(f"{number},plain\n" for number in range(3, 20_000))
    found = read(f'id,name\n1,Ann\n2,"Bo\n{rows}'.encode())

    assert found.chat_ids == [1, *range(3, 20_000)]
    assert [bad.line for bad in found.rejected] == [3]


def test_a_row_of_many_lines_that_is_too_long_is_rejected_whole_and_no_line_of_it_is_lost() -> None:
    found = read(b'id,name\n1,"Ann\nA."\n2,"', b"b\n" * (MAX_CELL_CHARACTERS // 2), b'"\n3,Cy\n')

    assert found.chat_ids == [1, 3]
    assert [bad.line for bad in found.rejected] == list(range(4, 5 + MAX_CELL_CHARACTERS // 2))


@pytest.mark.parametrize("begin", ["1\n", '[1, "', '[1, {"id"', 'id,name\n1,"'])
def test_a_row_without_an_end_is_not_held_in_memory(begin: str) -> None:
    reader = RecipientReader(None)
    tracemalloc.start()
    with suppress(UsageError):  # an array that cannot be read on
        for chunk in (begin.encode(), *[b"x" * 2**16] * 200):
            for _ in reader.feed(chunk):
                pass
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 2**21


def test_an_element_that_does_not_end_is_refused() -> None:
    found = read(b'[1, "', *[b"x" * 2**16] * 40)

    assert "element 2 is longer than 1 MiB" in str(found.error)


@pytest.mark.parametrize(("form", "first"), [(CSV, "1,x"), (NDJSON, "1")])
def test_a_line_that_is_too_long_is_rejected_and_the_next_one_read(form: ListFormat, first: str) -> None:
    found = read(f"{first}\n2,{'x' * MAX_CELL_CHARACTERS}\n3\n".encode(), form=form)

    assert found.chat_ids == [1, 3]
    assert [(bad.line, bad.reason, len(bad.excerpt)) for bad in found.rejected] == [(2, "longer than 64 KiB", 80)]


def test_an_excerpt_is_short_and_shows_no_control_characters() -> None:
    found = read(("\x01\x1b[31m\u202e" + "x" * 200 + "\n").encode())

    [bad] = found.rejected
    assert bad.excerpt.isprintable()
    assert len(bad.excerpt) == 80


def test_bytes_that_are_no_utf_8_in_other_columns_do_not_matter() -> None:
    assert read(b"id,name\n5,Jos\xe9\n7,\xff\xfe\n").chat_ids == [5, 7]


def test_rows_may_name_the_bot_they_are_for() -> None:
    lists = [
        read(b"chat_id,bot\n1,cat\n2,dog\n3,\n4,cow\n", bots=["cat", "dog"]),
        read(b'{"id":1,"bot":"cat"}\n{"id":2,"bot":"dog"}\n3\n{"id":4,"bot":"cow"}\n', bots=["cat", "dog"]),
        read(b'[{"id":1,"bot":"cat"},{"id":2,"bot":"dog"},3,{"id":4,"bot":"cow"}]', bots=["cat", "dog"]),
    ]

    for found in lists:
        assert (found.chat_ids, found.of_bots) == ([3], {"cat": [1], "dog": [2]})
        assert [bad.reason for bad in found.rejected] == ["'cow' is no bot of this broadcast, which has cat, dog"]


@pytest.mark.parametrize("text", ["[5, 7", "[5, 7, 34", '[5, 7, {"id": 3', '[5, 7, "3', "[5, 7,"])
def test_of_a_json_array_that_was_cut_off_only_whole_elements_count(text: str) -> None:
    found = read(text.encode())

    assert found.chat_ids in ([5], [5, 7])
    assert "cannot be read beyond element" in str(found.error)
    assert "adds nothing twice" in str(found.error)


def test_json_that_breaks_off_in_the_middle_says_where_and_keeps_what_came_before() -> None:
    found = read(b'[5, {"id": 7, "tags": [7, 8]}, foo, 3]')

    assert found.chat_ids == [5, 7]
    assert "cannot be read beyond element 2" in str(found.error)


def test_values_may_follow_each_other() -> None:
    assert ids("[5,7][6]") == ids("[5,\n7]\n[6]\n") == [5, 7, 6]


@pytest.mark.parametrize("depth", [30_000, 200_000])
def test_an_element_nested_deeper_than_anything_sensible_is_no_crash(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth

    lines = read(b"1\n" + deep + b"\n3", form=NDJSON)
    assert (lines.chat_ids, [bad.line for bad in lines.rejected]) == ([1, 3], [2])
    assert "nested deeper than 64 levels" in str(read(b"[1," + deep + b",3]").error)


def test_chat_ids_of_the_program_are_checked_like_any_other() -> None:
    rows = RowBuffer()
    for _ in rows_of([ChatId(1), ChatId(0), ChatId(MAX_CHAT_ID + 1), ChatId(-5)], rows, at_once=2):
        pass

    chat_ids, _, rejected = rows.drain()
    assert chat_ids == [1, -5]
    assert [bad.line for bad in rejected] == [2, 3]


WORDS = st.one_of(
    st.integers(-(10**14), 10**14).map(str),
    st.integers(-3, 3).map(str),
    st.sampled_from(
        [
            "",
            " ",
            "@x",
            "1.5",
            '"7"',
            '"',
            '""',
            "a\rb",
            "é",
            "[",
            "]",
            "{",
            "}",
            '{"id":9}',
            '{"id": 9, "n": "]"}',
            "null",
        ]
    ),
    st.text('0123456789-",;[]{} \r\\:abé', max_size=8),
)
CSV_LISTS = st.lists(st.lists(WORDS, min_size=1, max_size=3).map(",".join), max_size=12).map("\n".join)
HEADERS = st.sampled_from(["", "chat_id\n", "name,chat_id\n", "id,bot\n", "\ufeffid;x\r\n"])
JSON_LISTS = st.lists(WORDS, max_size=12).map(lambda words: f"[{','.join(words)}]")
TEXTS = st.one_of(
    st.tuples(HEADERS, CSV_LISTS).map("".join).map(lambda text: (text, CSV)),
    st.lists(WORDS, max_size=12).map("\n".join).map(lambda text: (text, NDJSON)),
    JSON_LISTS.map(lambda text: (text, JSON)),
)


@given(TEXTS, st.lists(st.integers(0, 200), max_size=20))
def test_where_a_list_is_cut_into_pieces_changes_nothing(listed: tuple[str, ListFormat], cuts: list[int]) -> None:
    text, form = listed
    data = text.encode()
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    pieces = [data[begin:end] for begin, end in itertools.pairwise(places)]
    bytewise = [data[at : at + 1] for at in range(len(data))]

    whole = read(data, form=form, bots=["a"])
    assert read(*pieces, form=form, bots=["a"]) == whole
    assert read(*bytewise, form=form, bots=["a"]) == whole


@given(
    st.lists(st.integers(-MAX_CHAT_ID, MAX_CHAT_ID).filter(lambda chat: abs(chat) > 1)),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_every_id_of_a_good_list_is_read_once_and_in_order(chat_ids: list[int], line_end: str) -> None:
    plain = line_end.join(map(str, chat_ids))
    objects = "\n".join(json.dumps({"name": "é]", "id": chat_id}) for chat_id in chat_ids)

    assert ids(plain) == ids(plain, NDJSON) == ids(objects, NDJSON) == chat_ids
    assert ids(json.dumps(chat_ids)) == ids(json.dumps([{"id": chat_id} for chat_id in chat_ids])) == chat_ids


@given(st.lists(WORDS.filter(lambda word: "\n" not in word), max_size=12))
def test_no_line_is_lost(words: list[str]) -> None:
    """Of lines without quotes, which may join, each that is not blank is read or rejected."""
    lines = [re.sub(r'["\r,;|]', "", word).replace(" ", "") for word in words]
    found = read("\n".join(["77", *lines]).encode(), form=CSV)

    assert found.error is None
    assert len(found.chat_ids) + len(found.rejected) == 1 + sum(1 for line in lines if line.strip())
