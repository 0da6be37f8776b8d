"""The streaming multipart parser: the same parts however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.sandbox.multipart import Malformed, Multipart, Part, boundary_of

BOUNDARY = b"edge"
names = st.text(
    st.characters(codec="utf-8", exclude_characters='"\\\r\n', exclude_categories=["C"]), min_size=1, max_size=8
)
bodies = st.binary(max_size=200) | st.sampled_from([b"", b"\r\n", b"\r\n--edg", b"--edge", b"\r\n--", b"-" * 30])
parts = st.lists(st.tuples(names, st.none() | names, bodies), max_size=4)


class Collected:
    """A sink that keeps what it gets."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.data = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.data += data

    def close(self) -> None:
        self.closed = True


def encode(fields: list[tuple[str, str | None, bytes]]) -> bytes:
    body = b""
    for name, filename, data in fields:
        disposition = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
        body += b"--edge\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + data + b"\r\n"
    return body + b"--edge--\r\n"


def parse(body: bytes, cuts: list[int]) -> tuple[Multipart, list[Collected]]:
    opened: list[Collected] = []

    def open_part(part: Part) -> Collected:
        opened.append(Collected(part))
        return opened[-1]

    parser = Multipart(BOUNDARY, open_part)
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in pairwise(edges):
        parser.feed(body[start:end])
    return parser, opened


@given(parts, st.lists(st.integers(min_value=0, max_value=5000), max_size=12))
def test_parts_come_out_as_they_went_in_however_the_body_is_cut(
    fields: list[tuple[str, str | None, bytes]], cuts: list[int]
) -> None:
    parser, opened = parse(encode(fields), cuts)
    assert parser.complete
    assert [(sink.part.name, sink.part.filename, sink.data) for sink in opened] == fields
    assert all(sink.closed for sink in opened)


def test_a_body_cut_at_every_byte_still_parses() -> None:
    body = encode([("photo", "a.jpg", b"x\r\n--edgy\r\n--edg"), ("chat_id", None, b"5")])
    _, opened = parse(body, list(range(len(body))))
    assert [sink.data for sink in opened] == [b"x\r\n--edgy\r\n--edg", b"5"]


def test_a_body_without_its_last_boundary_is_not_complete() -> None:
    parser, _ = parse(encode([("photo", "a.jpg", b"x")])[:-6], [])
    assert not parser.complete


def test_headers_in_any_order_and_encoded_file_names_are_read() -> None:
    body = (
        b"preamble\r\n--edge\r\nContent-Type: image/png\r\nX-More: 1\r\n"
        b"Content-Disposition: form-data; filename*=utf-8''%C3%A9.png; name=photo\r\n\r\ndata\r\n--edge--"
    )
    _, opened = parse(body, [])
    assert opened[0].part == Part(name="photo", filename="é.png", content_type="image/png")


@pytest.mark.parametrize(
    "body", [b"--edge\r\nContent-Type: a/b\r\n\r\nx\r\n--edge--", b"--edge\r\n" + b"x" * 20_000, b"--edgexx\r\n"]
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse(body, [])


def test_only_a_boundary_of_1_to_70_characters_is_taken() -> None:
    assert boundary_of("multipart/form-data; boundary=----abc") == b"----abc"
    for header in ("multipart/form-data", "multipart/form-data; boundary=" + "a" * 71):
        with pytest.raises(Malformed):
            boundary_of(header)
