"""Forms of an exact length, checked with the standard library's own parser."""

from collections.abc import AsyncIterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.errors import ObjectCorrupt, ObjectMissing, StoreUnavailable
from telewarm.telegram import multipart
from telewarm.telegram.files import FileUpload
from telewarm.telegram.transport import MAX_INLINE_READ_BYTES, iter_body


async def body(form: multipart.Multipart) -> bytes:
    whole = b""
    for piece in form.pieces:
        whole += piece if isinstance(piece, bytes) else b"".join([chunk async for chunk in iter_body(piece)])
    return whole + form.tail


def parts(form: multipart.Multipart, content: bytes) -> dict[str, Message]:
    parsed = message_from_bytes(b"Content-Type: " + form.content_type.encode() + b"\r\n\r\n" + content)
    found: dict[str, Message] = {}
    for part in parsed.get_payload():
        assert isinstance(part, Message)
        found[str(part.get_param("name", header="content-disposition"))] = part
    return found


def of(path: Path, size: int, *, thumbnail: bytes | None = None) -> FileUpload:
    return FileUpload(path=path, filename="a.jpg", mime="image/jpeg", bytes=size, thumbnail=thumbnail)


async def test_a_form_holds_fields_thumbnail_and_file_and_has_the_length_it_announces(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\x00photo\r\n--bytes")
    form = multipart.encode(
        {"chat_id": 7, "caption": "grüß", "protect_content": True, "reply_markup": {"a": [1]}},
        {"photo": of(path, 15, thumbnail=b"tiny")},
    )
    content = await body(form)
    assert len(content) == form.length
    found = parts(form, content)
    assert found["chat_id"].get_payload(decode=True) == b"7"
    assert found["caption"].get_payload(decode=True) == "grüß".encode()
    assert found["protect_content"].get_payload(decode=True) == b"true"
    assert found["reply_markup"].get_payload(decode=True) == b'{"a":[1]}'
    assert found["photo_thumbnail"].get_payload(decode=True) == b"tiny"
    assert found["photo"].get_payload(decode=True) == b"\x00photo\r\n--bytes"
    assert found["photo"].get_filename() == "a.jpg"
    assert found["photo"].get_content_type() == "image/jpeg"


async def test_several_uploads_travel_in_one_form(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 3)
    form = multipart.encode({}, {"file0": of(tmp_path / "a", 3), "file1": of(tmp_path / "b", 3)})
    found = parts(form, await body(form))
    assert [found[name].get_payload(decode=True) for name in ("file0", "file1")] == [b"aaa", b"bbb"]


@given(st.text())
def test_no_file_name_breaks_out_of_its_header(filename: str) -> None:
    upload = FileUpload(path=Path("/nowhere"), filename=filename, mime="a/b", bytes=0)
    head = multipart.encode({}, {"photo": upload}).pieces[0]
    assert isinstance(head, bytes)
    assert head.count(b"\r\n") == 4
    assert head.count(b'"') == 4
    assert b"\\" not in head


@given(st.text())
def test_no_mime_type_breaks_out_of_its_header(mime: str) -> None:
    upload = FileUpload(path=Path("/nowhere"), filename="x", mime=mime, bytes=0)
    head = multipart.encode({}, {"photo": upload}).pieces[0]
    assert isinstance(head, bytes)
    assert head.count(b"\n") == head.count(b"\r") == 4


def test_a_file_name_keeps_its_language() -> None:
    assert multipart.header_parameter("отчёт 日本.pdf") == "отчёт 日本.pdf"


def test_every_form_has_its_own_boundary() -> None:
    assert multipart.encode({}, {}).content_type != multipart.encode({}, {}).content_type


@pytest.mark.parametrize(
    "size", [0, 1, MAX_INLINE_READ_BYTES, MAX_INLINE_READ_BYTES + 1, 3 * MAX_INLINE_READ_BYTES + 7]
)
async def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    (tmp_path / "file").write_bytes(content)
    assert b"".join([chunk async for chunk in iter_body(of(tmp_path / "file", size))]) == content


@pytest.mark.parametrize("size", [10, MAX_INLINE_READ_BYTES, 2 * MAX_INLINE_READ_BYTES])
@pytest.mark.parametrize("change", [-1, 1])
async def test_a_file_that_has_changed_its_length_is_refused(tmp_path: Path, size: int, change: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * (size + change))
    with pytest.raises(ObjectCorrupt, match="announced with"):
        [chunk async for chunk in iter_body(of(tmp_path / "file", size))]


async def test_a_file_that_has_gone_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing):
        [chunk async for chunk in iter_body(of(tmp_path / "file", 1))]


async def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        [chunk async for chunk in iter_body(of(tmp_path, 1))]


async def test_a_stream_is_opened_anew_for_each_attempt_and_closed() -> None:
    opened, closed = [], []

    async def stream() -> AsyncIterator[bytes]:
        opened.append(1)
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(1)

    upload = FileUpload.stream(stream, filename="a", mime="a/b", bytes=6)
    for _ in range(2):
        assert [chunk async for chunk in iter_body(upload)] == [b"one", b"two"]
    assert len(opened) == len(closed) == 2


def test_an_upload_has_one_source() -> None:
    with pytest.raises(ValueError, match="one of the two"):
        FileUpload(filename="a", mime="a/b", bytes=1)


def test_the_total_counts_the_thumbnail(tmp_path: Path) -> None:
    assert of(tmp_path, 100, thumbnail=b"tiny").total == 104
