"""Which bytes are asked for, and under which name they are given: pure."""

from __future__ import annotations

import pytest
from aiohttp import content_disposition_filename, parse_content_disposition
from hypothesis import given
from hypothesis import strategies as st

from telewarm.api.byte_ranges import ByteRange, RangeNotSatisfiable, matches_etag, parse_range
from telewarm.api.routes.preview import content_disposition

TAG = '"abc"'
WHOLE = None


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=0-99", ByteRange(0, 100)),
        ("bytes=10-19", ByteRange(10, 20)),
        ("bytes=90-1000", ByteRange(90, 100)),
        ("bytes=99-", ByteRange(99, 100)),
        ("Bytes= 5-6 ", ByteRange(5, 7)),
        ("bytes=-1", ByteRange(99, 100)),
        ("bytes=-1000", ByteRange(0, 100)),
        ("bytes=0-1,5-6", WHOLE),
        ("bytes=6-5", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=+1-2", WHOLE),
        ("bytes=1_0-20", WHOLE),
        ("bytes=٣-٤", WHOLE),
        ("lines=0-1", WHOLE),
        ("bytes=" + "9" * 5000 + "-", WHOLE),
        ("", WHOLE),
    ],
)
def test_a_range_is_read_as_the_rfc_says(asked: str, span: ByteRange | None) -> None:
    assert parse_range({"range": asked}, size=100, etag=TAG) == span


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=" + "9" * 18 + "-"])
def test_a_range_that_begins_after_the_end_cannot_be_satisfied(asked: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range({"range": asked}, size=100, etag=TAG)


@pytest.mark.parametrize(
    ("condition", "span"),
    [(TAG, ByteRange(0, 1)), ('"other"', WHOLE), (f"W/{TAG}", WHOLE), ("Wed, 04 Mar 2026", WHOLE)],
)
def test_a_range_of_what_has_changed_since_is_the_whole(condition: str, span: ByteRange | None) -> None:
    assert parse_range({"range": "bytes=0-0", "if-range": condition}, size=100, etag=TAG) == span


@given(st.text(alphabet="bytes=0123456789-, \t"), st.integers(1, 10**12))
def test_any_range_is_inside_of_the_file(asked: str, size: int) -> None:
    try:
        span = parse_range({"range": asked}, size=size, etag=TAG)
    except RangeNotSatisfiable:
        return
    assert span is None or 0 <= span.begin < span.end <= size


@pytest.mark.parametrize(
    ("known", "answer"),
    [(TAG, True), (f'"x", {TAG}', True), (f"W/{TAG}", True), ("*", True), ('"x"', False), ("abc", False), ("", False)],
)
def test_what_the_caller_has_already_is_known_by_its_tag(known: str, *, answer: bool) -> None:
    assert matches_etag({"if-none-match": known}, TAG) is answer


@given(st.text(min_size=1, max_size=80).filter(lambda name: name[0] != "/"), st.booleans())  # aiohttp drops it
def test_every_name_is_one_harmless_header_and_comes_out_as_it_went_in(name: str, inline: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    header = content_disposition(name, inline=inline)
    assert header.isascii()
    assert header.isprintable()
    assert header.startswith("inline; filename=" if inline else "attachment; filename=")
    how, fields = parse_content_disposition(header)
    assert how == ("inline" if inline else "attachment")
    assert content_disposition_filename(fields) == name.encode("utf-8", "replace").decode()


def test_a_name_in_ascii_needs_no_second_form() -> None:
    assert content_disposition("film 1.mp4", inline=True) == 'inline; filename="film 1.mp4"'
    assert (
        content_disposition('a"b\\.jpg', inline=False)
        == "attachment; filename=\"a_b_.jpg\"; filename*=UTF-8''a%22b%5C.jpg"
    )
    assert content_disposition("кот.jpg", inline=True) == (
        "inline; filename=\"___.jpg\"; filename*=UTF-8''%D0%BA%D0%BE%D1%82.jpg"
    )
