"""A film that was cut off is refused, wherever its index stands."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.demo.media import DemoFile
from telewarm.errors import UnreadableMedia
from telewarm.models import Kind
from telewarm.probe import Probe
from telewarm.probe.boxes import MAX_BOXES, missing_bytes
from tests.fixtures.media import video


def box(kind: bytes, length: int, *, long: bool = False) -> bytes:
    """Of `length` bytes in all."""
    head = b"\0\0\0\x01" + kind + length.to_bytes(8) if long else length.to_bytes(4) + kind
    return head + b"x" * (length - len(head))


def cut(path: Path, lost: int) -> None:
    path.write_bytes(path.read_bytes()[:-lost])


def missing_in(data: bytes) -> int:
    return missing_bytes(io.BytesIO(data), len(data))


def indexes(path: Path) -> str:
    data = path.read_bytes()
    return "first" if data.index(b"moov") < data.index(b"mdat") else "last"


@pytest.fixture
def film(tmp_path: Path, demo_files: dict[str, DemoFile]) -> Path:
    """Its index comes first, so that a decoder finds nothing wrong with its beginning."""
    return Path(shutil.copy(demo_files["film.mp4"].path, tmp_path / "film.mp4"))


@pytest.mark.parametrize("lost", [1, 100_000])
async def test_a_film_whose_index_comes_first_is_refused_when_its_end_is_missing(
    probe: Probe, film: Path, lost: int
) -> None:
    assert indexes(film) == "first"
    cut(film, lost)
    with pytest.raises(UnreadableMedia, match=r"it is cut off, its last .* missing"):
        await probe.facts(film, kind=Kind.VIDEO)
    assert (await probe.facts(film, kind=Kind.DOCUMENT)).mime == "video/mp4"


async def test_a_film_whose_index_comes_last_is_refused_too(probe: Probe, tmp_path: Path) -> None:
    path = video(tmp_path / "last.mp4")
    assert indexes(path) == "last"
    cut(path, 100)
    with pytest.raises(UnreadableMedia, match="it is cut off"):
        await probe.facts(path)


async def test_a_whole_film_is_taken_with_whatever_follows_it(probe: Probe, film: Path) -> None:
    for tail in (b"", b"\0", b"\0\0\0\0", b"rubbish of a careless program", box(b"free", 1000)[:10]):
        with film.open("ab") as file:
            file.write(tail)
        assert (await probe.facts(film)).video_codec == "h264"


@given(st.lists(st.sampled_from([b"free", b"mdat", b"moof", b"uuid"]), max_size=4), st.integers(16, 300), st.booleans())
def test_exactly_what_is_cut_from_the_last_box_is_missing(before: list[bytes], length: int, long: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    whole = box(b"ftyp", 24) + b"".join(box(kind, 40) for kind in before) + box(b"mdat", length, long=long)
    head = 16 if long else 8
    assert [missing_in(whole[: len(whole) - lost]) for lost in range(length - head + 1)] == list(
        range(length - head + 1)
    )


def test_a_length_to_the_end_of_the_file_is_one() -> None:
    assert missing_in(box(b"ftyp", 24) + b"\0\0\0\0mdat" + b"x" * 100) == 0


def test_what_nobody_needs_may_be_missing() -> None:
    assert missing_in(box(b"ftyp", 24) + box(b"mdat", 100) + box(b"free", 100)[:50]) == 0


@given(st.binary(max_size=64))
def test_no_bytes_break_it(data: bytes) -> None:
    assert missing_in(data) >= 0


def test_a_file_of_nothing_but_empty_boxes_is_left_soon() -> None:
    many = io.BytesIO(box(b"free", 8) * (MAX_BOXES + 10) + box(b"mdat", 100)[:50])
    assert missing_bytes(many, len(many.getvalue())) == 0
    assert many.tell() <= 8 * MAX_BOXES + 16
