"""The header reader against files that Pillow writes: the sides must be those that Pillow sees."""

import io
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from telewarm.demo.media import photo
from telewarm.errors import UnreadableMedia
from telewarm.probe.headers import read_head
from tests.fixtures.media import jpeg

sides = st.integers(min_value=1, max_value=300)
reusing_the_folder = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def measured(path: Path, data: bytes) -> tuple[int | None, int | None]:
    path.write_bytes(data)
    head = read_head(path)
    assert head.problem is None
    assert head.demuxer is None
    assert head.facts.bytes == len(data)
    return head.facts.width, head.facts.height


@reusing_the_folder
@given(sides, sides, st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "lossless", "alpha"]))
def test_the_sides_are_read_from_the_header(tmp_path: Path, width: int, height: int, style: str) -> None:
    sink = io.BytesIO()
    image = Image.new("RGBA" if style == "alpha" else "RGB", (width, height))
    name = "WEBP" if style in {"lossless", "alpha"} else style
    image.save(sink, name, lossless=style == "lossless")
    assert measured(tmp_path / "picture", sink.getvalue()) == (width, height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_sides_as_it_turns_the_picture(tmp_path: Path, orientation: int) -> None:
    data = jpeg(width=40, height=30, orientation=orientation)
    with Image.open(io.BytesIO(data)) as image:
        seen = ImageOps.exif_transpose(image).size
    assert measured(tmp_path / "turned.jpg", data) == seen
    assert seen == ((30, 40) if orientation >= 5 else (40, 30))


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"icc_profile": b"x" * 150_000}, {"comment": b"y" * 60_000}]
)
def test_a_jpeg_is_read_past_whatever_stands_before_its_frame(tmp_path: Path, options: dict[str, object]) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (70, 50)).save(sink, "JPEG", **options)
    assert measured(tmp_path / "long.jpg", sink.getvalue()) == (70, 50)


def test_the_benchmarks_photos_cost_a_header_read(tmp_path: Path) -> None:
    assert measured(tmp_path / "bench.jpg", photo(7, bytes=200_000)) == (640, 480)


def test_damaged_exif_turns_nothing(tmp_path: Path) -> None:
    data = jpeg(width=40, height=30, orientation=6)
    start = data.index(b"Exif\0\0") + 6
    assert measured(tmp_path / "damaged.jpg", data[: start + 4] + b"\xff\xff\xff\xff" + data[start + 8 :]) == (40, 30)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_picture_cut_off_in_its_header_is_a_problem_not_a_crash(tmp_path: Path, name: str) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (70, 50)).save(sink, name)
    path = tmp_path / "cut"
    path.write_bytes(sink.getvalue()[:20])
    head = read_head(path)
    assert head.problem is not None
    assert "damaged or cut off" in head.problem


@reusing_the_folder
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b""]),
    st.binary(min_size=1, max_size=200),
)
def test_no_bytes_break_the_header_reader(tmp_path: Path, start: bytes, rest: bytes) -> None:
    path = tmp_path / "random"
    path.write_bytes(start + rest)
    head = read_head(path)
    assert head.facts.bytes == len(start + rest)
    assert head.facts.width is None or head.facts.width > 0


@pytest.mark.parametrize("kind", ["empty", "missing", "folder", "pipe"])
def test_what_is_no_file_with_content_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(UnreadableMedia) as caught:
        read_head(path)
    assert str(tmp_path) not in caught.value.message
