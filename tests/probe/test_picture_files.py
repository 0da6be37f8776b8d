"""Facts of pictures, stickers, tags and boxes, read in this process from bytes."""

from __future__ import annotations

import io
import struct

import pytest

from telewarm.errors import UnreadableMedia
from telewarm.models import MediaMetadata
from telewarm.probe.boxes import Layout, read_layout
from telewarm.probe.id3 import read_tags
from telewarm.probe.pictures import DamagedHeader, PictureInfo, is_turned, measure
from telewarm.probe.stickers import Lottie, read_lottie
from telewarm.probe.tags import readable
from telewarm.probe.words import DAMAGED, plain, unreadable
from tests.fixtures import odd_media as odd
from tests.fixtures.media import jpeg

TURNED = b"II*\0\x08\0\0\0" + struct.pack("<HHHLHHL", 1, 0x0112, 3, 1, 6, 0, 0)
HEAD_BYTES = 64


def info(mime: str, data: bytes) -> PictureInfo:
    return measure(mime, data[:HEAD_BYTES], io.BytesIO(data), len(data))


def png(*chunks: tuple[bytes, bytes], end: bool = True) -> bytes:
    head = struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0)
    body = b"".join(odd.chunk(name, data) for name, data in ((b"IHDR", head), *chunks))
    return b"\x89PNG\r\n\x1a\n" + body + (odd.chunk(b"IEND", b"") if end else b"")


@pytest.mark.parametrize(
    ("chunks", "animated", "sides"),
    [
        (((b"IDAT", b"x"),), False, (40, 30)),
        (((b"acTL", struct.pack(">II", 3, 0)), (b"IDAT", b"x")), True, (40, 30)),
        (((b"acTL", struct.pack(">II", 1, 0)), (b"IDAT", b"x")), False, (40, 30)),
        (((b"IDAT", b"x"), (b"acTL", struct.pack(">II", 3, 0))), False, (40, 30)),
        (((b"eXIf", TURNED), (b"IDAT", b"x")), False, (30, 40)),
    ],
)
def test_the_chunks_of_a_png_say_how_it_is_seen(
    chunks: tuple[tuple[bytes, bytes], ...],
    animated: bool,  # noqa: FBT001 - a parameter
    sides: tuple[int, int],
) -> None:
    found = info("image/png", png(*chunks))
    assert (found.width, found.height, found.is_animated, found.is_complete) == (*sides, animated, True)


@pytest.mark.parametrize(
    "data",
    [png(), png((b"IDAT", b"x"), end=False), png((b"IDAT", b"x" * 99), end=False)[:-50]],
    ids=["without pixels", "without an end", "cut off"],
)
def test_a_png_without_pixels_or_end_is_incomplete(data: bytes) -> None:
    assert not info("image/png", data).is_complete


@pytest.mark.parametrize(("end", "complete"), [(True, True), (False, False)])
def test_of_a_png_with_very_many_chunks_the_trailer_is_searched(end: bool, complete: bool) -> None:  # noqa: FBT001 - a parameter
    many = ((b"IDAT", b""),) * 8200
    assert info("image/png", png(*many, end=end)).is_complete is complete


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_seen_as_its_exif_says_and_incomplete_without_its_end(orientation: int) -> None:
    data = jpeg(width=40, height=30, orientation=orientation)
    found, cut = info("image/jpeg", data), info("image/jpeg", data[:-40])
    assert (found.width, found.height) == ((40, 30) if orientation == 1 else (30, 40))
    assert (found.is_complete, cut.is_complete) == (True, False)


def test_a_jpeg_that_ends_in_a_segment_after_its_sides_is_incomplete() -> None:
    data = jpeg(width=40, height=30)
    at = data.index(b"\xff\xc0")
    assert info("image/jpeg", data[: at + 21]) == PictureInfo(width=40, height=30, is_complete=False)


@pytest.mark.parametrize("stray", [b"hello", b"\xff\xff", b"\xff\xd0"])
def test_stray_bytes_fill_bytes_and_lone_markers_of_a_jpeg_are_skipped(stray: bytes) -> None:
    data = jpeg(width=40, height=30)
    at = data.index(b"\xff\xdb")
    assert (info("image/jpeg", data[:at] + stray + data[at:]).width) == 40


@pytest.mark.parametrize(
    ("mime", "data"),
    [
        ("image/jpeg", b"\xff\xd8"),
        ("image/jpeg", b"\xff\xd8" + b"x" * 50),
        ("image/jpeg", b"\xff\xd8\xff\xd9\0\0"),
        ("image/jpeg", b"\xff\xd8\xff\xda\0\x08xxxxxx"),
        ("image/jpeg", b"\xff\xd8" + b"\xff\xfe\0\x02" * 4100),
        ("image/png", b"\x89PNG\r\n\x1a\n" + bytes(40)),
        ("image/webp", b"RIFF\0\0\0\0WEBPVP9 " + bytes(40)),
        ("image/bmp", odd.bmp(0, 5)),
    ],
)
def test_a_header_that_contradicts_its_format_is_damaged(mime: str, data: bytes) -> None:
    with pytest.raises(DamagedHeader):
        info(mime, data)


@pytest.mark.parametrize("tiff", [b"", TURNED[:12], b"MM\0*\0\0\0\x08\0\0", TURNED.replace(b"\x12\x01", b"\x13\x01")])
def test_damaged_exif_and_exif_without_an_orientation_say_nothing(tiff: bytes) -> None:
    assert is_turned(TURNED)
    assert not is_turned(tiff)


@pytest.mark.parametrize("style", ["lossy", "lossless"])
def test_a_webp_has_its_sides_in_each_of_its_forms(style: str) -> None:
    whole = odd.saved(odd.noise(40, 30), "WEBP", lossless=style == "lossless")
    assert info("image/webp", whole) == PictureInfo(width=40, height=30)
    assert not info("image/webp", whole[:-20]).is_complete


def test_an_extended_webp_moves_with_several_frames_and_is_turned_by_its_exif() -> None:
    assert info("image/webp", odd.moving("WEBP")).is_animated
    turned = odd.saved(odd.noise(40, 30), "WEBP", exif=odd.exif(6))
    assert (info("image/webp", turned).width, info("image/webp", turned).height) == (30, 40)
    plain_one = odd.saved(odd.noise(40, 30), "WEBP", icc_profile=b"so")
    assert info("image/webp", plain_one).width == 40
    many = turned[:20] + b"\x0a" + turned[21:30] + b"free\0\0\0\0" * 8200
    assert info("image/webp", many).width == 40


@pytest.mark.parametrize("header", [12, 40])
def test_a_bmp_is_complete_with_all_its_rows(header: int) -> None:
    data = odd.bmp(40, 30, header=header)
    assert info("image/bmp", data) == PictureInfo(width=40, height=30)
    assert not info("image/bmp", data[:-1]).is_complete


def test_a_packed_bmp_is_complete_with_the_bytes_that_it_names() -> None:
    data = bytearray(odd.bmp(40, 30))
    data[30] = 1
    data[2:6] = len(data).to_bytes(4, "little")
    assert info("image/bmp", bytes(data)).is_complete


def test_a_sticker_has_the_facts_of_its_animation() -> None:
    found = read_lottie(io.BytesIO(odd.lottie()))
    assert isinstance(found, Lottie)
    assert (found.w, found.h, found.seconds) == (512, 512, 1)
    assert Lottie(w=1, h=1, fr=0).seconds is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x1f\x8b" + b"x" * 40, "damaged"),
        (odd.lottie()[:-12], "cut off"),
        (odd.lottie(w="wide"), "no Lottie"),
    ],
)
def test_a_sticker_that_cannot_be_read_has_a_reason(data: bytes, reason: str) -> None:
    found = read_lottie(io.BytesIO(data))
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\0Song", "Song"),
        (b"\x03" + "Песня".encode(), "Песня"),
        (b"\x01" + "Song".encode("utf-16"), "Song"),
        (b"\x01\xfe\xff" + "Song".encode("utf-16-be"), "Song"),
        (b"\x01" + "Song".encode("utf-16-le"), "Song"),
        (b"\x02" + "Song".encode("utf-16-be"), "Song"),
        (b"\x03Ann\0Ben", "Ann, Ben"),
        (b"", None),
    ],
)
@pytest.mark.parametrize("version", [3, 4])
def test_a_title_is_read_in_each_encoding(value: bytes, text: str | None, version: int) -> None:
    assert read_tags(io.BytesIO(odd.id3((b"TIT2", value), version=version))).get("title") == text


@pytest.mark.parametrize(
    "data", [b"", b"ID3", b"ID3\x04\0\0\xff\0\0\0", b"ID3\x05\0\0\0\0\0\0", b"ID3\x04\0\x80\0\0\0\0"]
)
def test_a_tag_that_ffmpeg_reads_better_is_left_to_it(data: bytes) -> None:
    assert read_tags(io.BytesIO(data)) == {}


def test_frames_of_version_2_have_short_names_and_the_first_of_a_name_counts() -> None:
    frames = b"TT2\0\0\x05\0Song" + b"TT2\0\0\x05\0Then" + b"COM\0\0\x02\0x"
    data = b"ID3\x02\0\0\0\0\0" + bytes((len(frames),)) + frames
    assert read_tags(io.BytesIO(data)) == {"title": "Song"}


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("Warm Up", "Warm Up"),
        ("Песня", "Песня"),
        ("Привет, мир".encode("cp1251").decode("latin-1"), "Привет, мир"),
        ("Привет, мир".encode("cp1251").decode(errors="surrogateescape"), "Привет, мир"),
        ("Café".encode("cp1252").decode(errors="surrogateescape"), "Café"),
        ("Ünïcödé".encode("latin-1").decode("latin-1"), "Ünïcödé"),
        ("ÀÁÂÃ", "АБВГ"),
        ("БВГД".encode("cp1251").decode("latin-1"), "БВГД".encode("cp1251").decode("latin-1")),
        ("приВЕТ".encode("cp1251").decode("latin-1"), "приВЕТ".encode("cp1251").decode("latin-1")),
    ],
)
def test_a_tag_in_an_old_encoding_becomes_readable_where_that_is_plausible(tag: str, text: str) -> None:
    assert readable(tag) == text


def test_an_unreadable_file_is_explained_in_terms_of_the_file() -> None:
    error = unreadable(MediaMetadata(bytes=1, mime="image/png", ext="png"), plain("End of file"))
    assert isinstance(error, UnreadableMedia)
    assert "PNG file cannot be read: its data ends too early" in str(error)
    assert plain(None) == DAMAGED


def layout(data: bytes) -> Layout:
    return read_layout(io.BytesIO(data), len(data))


def test_the_boxes_of_a_film_say_whether_it_streams_and_is_encrypted() -> None:
    index, data = odd.box(b"moov", b"xxencvxx"), odd.box(b"mdat", b"pixels")
    found = layout(odd.ftyp(b"isom") + index + data)
    assert (found.streamable, found.is_film, found.encrypted) == (True, True, frozenset({"video"}))
    assert not layout(odd.ftyp(b"isom") + data + index).streamable
    assert layout(odd.ftyp(b"isom") + data + index[:-3]).lost_of_index


@pytest.mark.parametrize(
    ("meta", "sides"),
    [
        (b"ispe" + struct.pack(">LLL", 0, 40, 30), (40, 30)),
        (b"ispe" + struct.pack(">LLL", 0, 40, 30) + b"ispe" + struct.pack(">LLL", 0, 80, 60), (80, 60)),
        (b"ispe" + struct.pack(">LLL", 0, 40, 30) + b"\0\0\0\x09irot\x01", (30, 40)),
        (b"ispe" + struct.pack(">LLL", 0, 0, 30), None),
        (b"ispe", None),
    ],
)
def test_the_sides_of_a_heif_picture_are_its_largest_as_seen(meta: bytes, sides: tuple[int, int] | None) -> None:
    found = layout(odd.ftyp(b"heic") + odd.box(b"meta", meta))
    assert (found.is_picture, found.sides) == (True, sides)


def test_boxes_end_where_a_length_is_impossible() -> None:
    assert layout(odd.ftyp(b"isom") + b"\0\0\0\x02moov" + bytes(30)) == Layout()
    assert layout(odd.ftyp(b"isom") + b"\0\0\0\0mdat" + bytes(30)).missing_bytes == 0
