"""Lists in the shapes in which programs and people save them."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.broadcasts.columns import are_row_numbers, name_score
from telewarm.broadcasts.recipients import ListFormat, RecipientReader
from telewarm.broadcasts.rows import MAX_CHAT_ID
from tests.broadcast.test_recipients import ids, read

A, B, C = 500000001, 500000002, -1001234567890
THREE = f"{A},{B},{C}"


def update(number: int, chat: int) -> dict[str, object]:
    """As getUpdates answers."""
    return {"update_id": number, "message": {"message_id": 5, "from": {"id": number}, "chat": {"id": chat}}}


def message(number: int, chat: int) -> dict[str, object]:
    """As Telegram Desktop exports it."""
    return {"id": number, "type": "message", "from_id": f"user{chat}", "text_entities": [{"type": "plain"}]}


@pytest.mark.parametrize(
    "text",
    [
        THREE,
        f"{THREE}\n",
        f"{A}, {B}, {C},",
        f"{A};{B};{C}",
        f"{A} {B} {C}",
        f"{A}\t{B}\t{C}\r\n",
        f"{A} | {B} | {C}",
        f"{A}, {B};\n{C}",
        f"[{THREE}]",
        f"[{A}, {B},\n {C}\n]",
        f"['{A}', '{B}', '{C}']",
        f"({THREE})",
        f"{{{A}, {B}, {C}}}",
        f"'{A}','{B}','{C}'",
        f'"{A}","{B}","{C}"',
        f"{A},{B}\n{C}\n",
        f"chat_ids\n{THREE}\n",
    ],
)
def test_ids_may_stand_on_one_line(text: str) -> None:
    assert ids(text) == [A, B, C]


def test_a_line_of_ids_may_be_far_longer_than_a_row() -> None:
    chats = range(A, A + 50_000)

    assert ids(",".join(map(str, chats))) == list(chats)
    assert ids(" ".join(map(str, chats)) + "\n") == list(chats)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("header", ["", "chat_id,name{0}", "name,notes{0}", "{0}"])
def test_lines_end_as_any_system_ends_them(line_end: str, header: str) -> None:
    rows = [f"{chat},Ann{number}" if header else f"{chat}" for number, chat in enumerate((A, B, C))]
    text = header.format(line_end) + line_end.join(rows) + line_end

    found = read(text.encode())

    assert (found.chat_ids, found.rejected, found.error) == ([A, B, C], [], None)


def test_line_ends_may_be_mixed() -> None:
    assert ids(f"{A}\r\n{B}\r{C}\n\r\r\n600000000") == [A, B, C, 600000000]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "iso8859-1"]
)
@pytest.mark.parametrize("text", [f"nome,chat_id\nJosé,{A}\nAnna,{B}\n", f"{A}\n{B}\n"])
def test_a_list_is_read_in_the_encoding_that_its_program_wrote(text: str, encoding: str) -> None:
    data = text.encode(encoding)
    halves = [data[at : at + 1] for at in range(len(data))]

    assert [read(data).chat_ids, read(*halves).chat_ids] == [[A, B]] * 2


@pytest.mark.parametrize(
    ("begin", "name"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00[Content_Types].xml", "an Excel workbook"),
        (b"PK\x03\x04\x14\x00mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "an OpenDocument file"),
        (b"PK\x03\x04\x14\x00chats.csv", "another ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (b"SQLite format 3\x00", "an SQLite database"),
        (b"PAR1", "a Parquet file"),
        (b"\xff\xd8\xff\xe0", "a picture"),
        (b"<!DOCTYPE html><table>", "a page of HTML"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "HTML or XML"),
        (b"\x07\x00\x01\x02\x03", "a binary file"),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"\x00\x01" * 100])
def test_a_file_that_is_no_text_is_refused_by_its_name(begin: bytes, name: str, rest: bytes) -> None:
    found = read(begin + rest)

    assert (found.chat_ids, found.rejected) == ([], [])
    assert name in str(found.error)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_yields_a_column_of_chats(delimiter: str) -> None:
    rows: list[list[object]] = [["name", "chat_id", "notes"], ["Lee, A; B", A, "x|y"], ["Bo\tC", B, ""]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)

    assert ids(out.getvalue()) == [A, B]
    assert ids(f"sep={delimiter}\n{out.getvalue()}") == [A, B]


def test_titles_above_the_header_are_passed_over() -> None:
    assert ids(f"Customers, May 2026\n\nname,chat_id\nAnn,{A}\n") == [A]


@pytest.mark.parametrize(
    "cell",
    [
        f"{A}.0", f"{A}.00", f"{A}.", f"'{A}", f"'{A}'", f'="{A}"', f'"=""{A}"""', f"  {A} ", f"\u00a0{A}\u00a0",
        f"\u200b{A}", f"\u202d{A}\u202c", f"\ufeff{A}", "５０００００００１", "٥٠٠٠٠٠٠٠١", f"user{A}", f"tg://user?id={A}",
        f'" {A}"',
    ],
)  # fmt: skip
def test_what_spreadsheets_and_copying_put_around_an_id_is_taken_off(cell: str) -> None:
    assert ids(f"chat_id,name\n{cell},Ann\n") == [A]


@pytest.mark.parametrize("minus", ["-", "−", "–", "—", "－"])
def test_a_minus_may_be_what_a_word_processor_made_of_it(minus: str) -> None:
    assert ids(f"{minus}1001234567890\n{A}\n") == [C, A]
    assert ids("chat_id\nchannel1234567890\nchat123456\n") == [C, -123456]


@pytest.mark.parametrize(
    "header",
    [
        "No,Name,TG", "id,name,tg", "#,name,Telegram", "id,name,telegram_id", "ID,Nome,ID do Telegram",
        "id,nome,ID Usuário", "no,name,uid",
        "id,name,peer", "№,имя,Телеграм ID", "Row,Name,chatId", "id,x,Chat-ID", "id,name,User ID",
        "id,name,tgUserId", "_id,name,from_id",
    ],
)  # fmt: skip
def test_row_numbers_are_no_chats_where_another_column_says_that_it_has_them(header: str) -> None:
    found = read(f"{header}\n1,Ann,{A}\n2,Bob,{B}\n3,Cy,{C}\n".encode())

    assert (found.chat_ids, found.rejected, found.error) == ([A, B, C], [], None)
    assert (found.column, found.guess) == (header.split(",")[2], None)


@pytest.mark.parametrize("header", ["No,Name,Ref", "id,name,code", "Nr,Name,", ""])
def test_a_column_with_no_known_name_is_taken_as_a_guess_that_is_told(header: str) -> None:
    text = "".join(f"{number},Ann,{A + number}\n" for number in range(1, 5))
    found = read(f"{header}\n{text}".encode() if header else text.encode())

    assert found.chat_ids == [A + number for number in range(1, 5)]
    assert found.guess is not None
    assert found.column == (header.split(",")[2] if header else "") or found.column == "3"


@pytest.mark.parametrize(
    "text",
    [
        "1\n2\n3\n",
        "0\n1\n2\n",
        "id\n1\n2\n3\n",
        "No,Name\n1,Ann\n2,Bob\n",
        "id,name\n1,Ann\n2,Bob\n3,Cy\n",
        "1,Ann\n2,Bob\n",
        "[1, 2, 3, 4]",
        '{"id": 1}\n{"id": 2}\n{"id": 3}\n',
        '[{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}]',
    ],
)
def test_numbers_that_count_up_are_refused_until_they_are_said_to_be_chats(text: str) -> None:
    found = read(text.encode())

    assert (found.chat_ids, found.rejected) == ([], [])
    assert "row numbers" in str(found.error)
    column = str(found.error).rsplit("column=", 1)[1]
    said = read(text.encode(), column=column)
    assert said.error is None
    assert list(said.chat_ids)[-2:] in ([2, 3], [1, 2], [3, 4])


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (f"{A},{A + 500}\n{B},{B + 500}\n", "'1', '2'"),
        (f"a,b,c\nx,{A},{A + 500}\ny,{B},{B + 500}\n", "'b', 'c'"),
        ("name,phone\nAnn,5511912345678\nBob,5511912345679\n", "'name', 'phone'"),
        ("name,note\nAnn,x\nBob,y\n", "none of the columns"),
        (f'{{"a": [{A}], "b": [{B}]}}', "'a', 'b'"),
    ],
)
def test_a_list_that_does_not_say_where_its_chats_are_is_refused_whole(text: str, columns: str) -> None:
    found = read(text.encode())

    assert (found.chat_ids, found.rejected) == ([], []) or "none of" in columns
    assert columns in str(found.error) or found.rejected


@pytest.mark.parametrize(
    ("column", "expected"), [("2", [A, B]), ("ref", [A, B]), ("Ref ", [A, B]), ("other", [7, 9]), ("3", [7, 9])]
)
def test_the_column_may_be_said_by_name_or_number(column: str, expected: Sequence[int]) -> None:
    found = read(f"chat_id,ref,other\nx,{A},7\ny,{B},9\n".encode(), column=column)

    assert (found.chat_ids, found.guess, found.error) == (expected, None, None)


def test_every_cell_may_be_said_to_be_a_chat() -> None:
    assert read(f"{A},{B}\n{C},{A}\n".encode(), column="*").chat_ids == [A, B, C, A]


@pytest.mark.parametrize("text", ["name,ref\nAnn,5\n", '[{"name": "Ann", "ref": 5}]'])
def test_a_column_that_is_not_there_is_refused_with_those_that_are(text: str) -> None:
    assert "no column 'chat'; there are 'name', 'ref'" in str(read(text.encode(), column="chat").error)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (f'{{"user_id":{{"$numberLong":"{A}"}}}}\n{{"user_id":{{"$numberLong":"{B}"}}}}\n', "user_id"),
        (f'[{{"_id":{{"$oid":"6"}},"chat":{{"$numberLong":"{A}"}}}},{{"chat":{{"$numberLong":"{B}"}}}}]', "chat"),
        (f'{{\n "chats": [\n  {A},\n  "{B}"\n ]\n}}\n', "chats"),
        (f'{{"ok":true,"users":[{{"id":{A}}},{{"id":{B}}}]}}', "users.id"),
        (f'[\n {{\n  "chat_id": {A}\n }},\n {{\n  "chat_id": {B}\n }}\n]', "chat_id"),
        (f'{{\n "chat_id": {A}\n}}\n{{\n "chat_id": {B}\n}}\n', "chat_id"),
        (f'{{"chat_id": {A}, "tags": [7, 8]}}\n{{"chat_id": {B}, "tags": []}}\n', "chat_id"),
        (f'{{"tags": [7, 8], "user": {{"id": {A}}}}}\n{{"user": {{"id": {B}}}}}\n', "user.id"),
        (
            json.dumps({"ok": True, "result": [update(11, A), update(12, B)]}),
            "result.message.chat.id",
        ),
        (
            json.dumps({"name": "x", "type": "private_group", "id": 77, "messages": [message(1, A), message(2, B)]}),
            "messages.from_id",
        ),
        (f'{{"chats":{{"list":[{{"name":"x","id":{A}}},{{"id":{B}}}]}}}}', "chats.list.id"),
    ],
)  # fmt: skip
def test_chats_are_found_within_json_as_databases_and_telegram_export_it(text: str, column: str) -> None:
    for form in (None, ListFormat.JSON):
        found = read(text.encode(), form=form)
        assert (found.chat_ids, found.rejected, found.error, found.column) == ([A, B], [], None, column)


def test_keys_of_an_object_and_rows_in_arrays_are_a_guess() -> None:
    keys = read(f'{{"{A}": {{"name": "Ann"}}, "{B}": {{}}}}'.encode())
    rows = read(f'[[{A}, "Ann"], [{B}, "Bob"]]'.encode())

    assert keys.chat_ids == rows.chat_ids == [A, B]
    assert keys.guess is not None
    assert rows.guess is not None


def test_of_objects_of_several_shapes_each_has_its_own_best_key() -> None:
    assert ids(f'[{{"chat_id": {A}}}, {{"name": "Bo", "user": {{"id": {B}}}}}, {C}]') == [A, B, C]


@pytest.mark.parametrize(
    ("name", "known"),
    [("chat_id", True), ("Telegram ID", True), ("tgId", True), ("ID_Usuário", True), ("id do chat", True),
     ("айди", True), ("user", True), ("telegram_username", False), ("user_name", False), ("message_id", False),
     ("idade", False), ("chat_title", False), ("", False), ("video", False), ("order_id", False)],
)  # fmt: skip
def test_a_name_says_chat_id_when_all_its_words_do(name: str, known: bool) -> None:  # noqa: FBT001
    assert (name_score(name) is not None) is known


@pytest.mark.parametrize("text", ["7\n8\n9\n", "17\n", "7, 9, 20", "1,2,3", "[7, 9, 20]", "['7', '9']", "ref\n7\n9\n"])
def test_numbers_too_small_for_chats_are_a_guess(text: str) -> None:
    assert "too small" in str(read(text.encode()).guess)
    assert read(f"chat_id\n{text}".encode()).guess is None
    assert read(text.replace("7", str(A)).encode()).guess is None or "7" not in text


def test_counting_begins_at_nought_or_one() -> None:
    assert [are_row_numbers(values) for values in (["0", "1"], [1, 2, 3], ["1.0", "2.0"])] == [True] * 3
    assert [are_row_numbers(values) for values in (["1"], [2, 3], [1, 3], ["a", "b"], [])] == [False] * 5


CHATS = st.lists(
    st.integers(-MAX_CHAT_ID, MAX_CHAT_ID).filter(lambda chat: abs(chat) > 10_000), min_size=1, max_size=30
)


@given(
    CHATS,
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.tuples(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=12), st.integers(0, 2)
    ),
)
def test_what_csv_writes_in_any_dialect_reads_back(
    chats: list[int], delimiter: str, quoting: int, line_end: str, beside: tuple[str, int]
) -> None:
    note, place = beside
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=line_end)  # type: ignore[arg-type]
    if quoting == csv.QUOTE_MINIMAL:  # it leaves line ends other than its own unquoted
        note = note.replace("\r", "").replace("\n", "")
    rows = [["n", f"a{note}"] for _ in chats]
    writer.writerow([*["name", "notes"][:place], "chat_id", *["name", "notes"][place:]])
    for row, chat in zip(rows, chats, strict=True):
        writer.writerow([*row[:place], chat, *row[place:]])

    assert ids(out.getvalue()) == chats


@given(CHATS, st.sampled_from([",", ";", "\t", "|", " "]), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_bare_ids_that_csv_writes_read_back(chats: list[int], delimiter: str, line_end: str, across: bool) -> None:  # noqa: FBT001
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([chats] if across else [[chat] for chat in chats])

    assert ids(out.getvalue()) == chats


@given(CHATS, st.sampled_from([None, 1, "\t"]), st.sampled_from(["bare", "texts", "objects", "inside", "nested"]))
def test_what_json_dumps_reads_back(chats: list[int], indent: int | str | None, shape: str) -> None:
    value: object = {
        "bare": chats,
        "texts": list(map(str, chats)),
        "objects": [{"name": "é]", "chat_id": chat, "tags": [1, 2]} for chat in chats],
        "inside": {"count": len(chats), "chat_ids": chats},
        "nested": {"data": {"users": [{"user": {"id": chat}} for chat in chats]}},
    }[shape]

    assert ids(json.dumps(value, indent=indent)) == chats


@pytest.mark.parametrize("text", ["chat_id\n{0}\n", "{0}\n", "chat_id,name\n{0},Ann\n", "chat_id\n{0}\n{0}\n"])
def test_a_number_with_commas_in_it_is_never_taken_for_several_chats(text: str) -> None:
    found = read(text.format("1,234,567,890").encode())

    assert found.chat_ids == []
    assert {"thousands separators" in bad.reason for bad in found.rejected} == {True}


def test_keys_that_are_chats_are_found_below_the_top_and_lines_may_end_with_commas() -> None:
    assert read(f'{{"users": {{"{A}": {{"name": "Ann"}}, "{B}": {{}}}}}}'.encode()).chat_ids == [A, B]
    assert ids(f'{{"chat_id": {A}}},\n{{"chat_id": {B}}}\n') == [A, B]


PIECES = st.sampled_from(
    [
        b"chat_id", b"500000001", b"-1001234567890", b"1", b"2", b",", b";", b"\t", b"|", b" ", b"\n", b"\r", b'"',
        b"'", b"=", b"[", b"]", b"{", b"}", b":", b'"id"', b"null", b"1.0", b"1E9", b"@ann", b"sep=;", b"\x00", b"\xff",
        b"\xef\xbb\xbf",
        b'{"chat_id": 5}', b'{"a": [1, 2]}', b'{"$numberLong": "7"}', b"bot", b"\xc3\xa9", b"x" * 300,
    ]
)  # fmt: skip


@given(
    st.lists(PIECES, max_size=30).map(b"".join),
    st.sampled_from([None, *ListFormat]),
    st.sampled_from([None, "1", "id", "*"]),
)
def test_whatever_a_list_holds_it_is_read_or_refused(data: bytes, form: ListFormat | None, column: str | None) -> None:
    whole = read(data, form=form, column=column)
    bytewise = read(*[data[at : at + 1] for at in range(len(data))], form=form, column=column)

    assert bytewise == whole
    assert all(0 < abs(chat) <= MAX_CHAT_ID for chat in whole.chat_ids)


def rows_of_kind(kind: str, count: int) -> Iterator[bytes]:
    if kind == "json":
        yield b'{"users": [{"user": {"id": 500000000}}'
    for at in range(0, count, 500):
        rows = range(A + at, A + at + 500)
        shape = {
            "json": b',{"user": {"id": %d}}',
            "ndjson": b'{"chat_id": %d}\n',
            "csv": b'"a, b",%d\n',
            "line": b"%d,",
        }
        yield b"".join(shape[kind] % row for row in rows)
    if kind == "json":
        yield b"]}"


@pytest.mark.parametrize("kind", ["json", "ndjson", "csv", "line"])
@pytest.mark.slow
def test_a_long_list_of_any_kind_takes_no_more_memory_than_a_short_one(kind: str) -> None:
    peaks = []
    for count in (5_000, 40_000):
        reader, taken = RecipientReader(None), 0
        tracemalloc.start()
        for piece in rows_of_kind(kind, count):
            for _ in reader.feed(piece):
                pass
            taken += len(reader.rows.drain()[0])
        reader.end()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count - 1000 <= taken <= count + 1

    assert peaks[1] < 1.3 * peaks[0]
