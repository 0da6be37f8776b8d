"""Films as the world has them: oblong pixels, matrices, late clocks, black openings, codecs that no client plays."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from PIL import Image, ImageStat

from telewarm.errors import UnreadableMedia
from telewarm.models import Kind
from telewarm.probe import Probe, choose_kind
from tests.fixtures.media import audio, video


def film(
    path: Path,
    *,
    sar: Fraction | None = None,
    codec: str = "libx264",
    black: int = 0,
    frames: int = 20,
    options: dict[str, str] | None = None,
    sides: tuple[int, int] = (128, 96),
) -> Path:
    """Its left half is white; its first frames are black, 10 a second."""
    width, height = sides
    with av.open(path, "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 5
        if sar is not None:
            stream.codec_context.sample_aspect_ratio = sar
        for number in range(frames):
            image = Image.new("RGB", sides)
            if number >= black:
                image.paste("white", (0, 0, width // 2, height))
            frame = cast(Any, av.VideoFrame).from_image(image)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_matrix(path: Path, *numbers: int) -> Path:
    """With the nine numbers of its display matrix replaced."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9I", *(number & 0xFFFFFFFF for number in numbers))
    path.write_bytes(data)
    return path


async def thumbnail(probe: Probe, path: Path) -> Image.Image:
    data = await probe.thumbnail(path, await probe.facts(path))
    assert data is not None
    return Image.open(io.BytesIO(data)).convert("L")


ONE, LAST = 0x10000, 0x40000000


@pytest.mark.parametrize(
    ("sar", "sides"), [((4, 3), (171, 96)), ((1, 2), (64, 96)), ((64, 45), (182, 96)), ((1, 1), (128, 96))]
)
async def test_oblong_pixels_are_reckoned_with(
    probe: Probe, tmp_path: Path, sar: tuple[int, int], sides: tuple[int, int]
) -> None:
    path = film(tmp_path / "a.mp4", sar=Fraction(*sar))
    facts = await probe.facts(path)
    assert (facts.width, facts.height) == sides
    assert (await thumbnail(probe, path)).size == sides


@pytest.mark.parametrize(
    ("matrix", "sides", "bright"),
    [
        ((ONE, 0, 0, 0, ONE, 0, 0, 0, LAST), (128, 96), "left"),
        ((0xFF06, 0x164F, 0, -0x164F, 0xFF06, 0, 0, 0, LAST), (128, 96), "left"),
        ((-ONE, 0, 0, 0, ONE, 0, 0, 0, LAST), (128, 96), "right"),
        ((-ONE, 0, 0, 0, -ONE, 0, 0, 0, LAST), (128, 96), "right"),
        ((ONE, 0, 0, 0, -ONE, 0, 0, 0, LAST), (128, 96), "left"),
        ((0, ONE, 0, -ONE, 0, 0, 0, 0, LAST), (96, 128), "top"),
        ((0, -ONE, 0, ONE, 0, 0, 0, 0, LAST), (96, 128), "bottom"),
        ((0, ONE, 0, ONE, 0, 0, 0, 0, LAST), (96, 128), "top"),
    ],
)
async def test_a_film_is_turned_by_quarters_and_mirrored_as_its_matrix_says(
    probe: Probe, tmp_path: Path, matrix: tuple[int, ...], sides: tuple[int, int], bright: str
) -> None:
    path = with_matrix(film(tmp_path / "a.mp4"), *matrix)
    facts = await probe.facts(path)
    image = await thumbnail(probe, path)
    assert (facts.width, facts.height) == image.size == sides
    width, height = image.size
    boxes = {
        "left": (0, 0, width // 2, height), "right": (width // 2, 0, width, height),
        "top": (0, 0, width, height // 2), "bottom": (0, height // 2, width, height),
    }  # fmt: skip
    shades = {name: ImageStat.Stat(image.crop(box)).mean[0] for name, box in boxes.items()}
    assert max(shades, key=lambda name: shades[name]) == bright


async def test_a_thumbnail_shows_something_when_the_film_begins_black(probe: Probe, tmp_path: Path) -> None:
    image = await thumbnail(probe, film(tmp_path / "a.mp4", black=8, frames=40))
    assert ImageStat.Stat(image).stddev[0] > 50


FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@pytest.mark.parametrize("late", [0, 100, 3 * 3600])
async def test_fragments_whose_clock_begins_late_last_as_long_as_they_do(
    probe: Probe, tmp_path: Path, late: int
) -> None:
    path = film(tmp_path / "a.mp4", options=FRAGMENTS)
    data = bytearray(path.read_bytes())
    scale = int.from_bytes(data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20])
    at = data.find(b"tfdt")
    while at >= 0:
        data[at + 8 : at + 16] = (int.from_bytes(data[at + 8 : at + 16]) + late * scale).to_bytes(8)
        at = data.find(b"tfdt", at + 4)
    path.write_bytes(data[: data.index(b"mfra") - 4])
    facts = await probe.facts(path)
    assert facts.duration == pytest.approx(2, abs=0.15)
    assert facts.streamable is True


@pytest.mark.parametrize(
    ("codec", "name"), [("libvpx", "a.webm"), ("libx264", "a.mkv"), ("libopus", "s.webm"), ("flac", "s.flac")]
)
async def test_a_recording_into_a_pipe_says_no_length_and_has_one(
    probe: Probe, tmp_path: Path, codec: str, name: str
) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        _record(file, codec, "flac" if codec == "flac" else "webm" if name.endswith("webm") else "matroska")
    facts = await probe.facts(path)
    assert facts.duration == pytest.approx(3, abs=0.15)


class _Pipe(io.RawIOBase):
    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self._file.write(bytes(data))  # type: ignore[call-overload]


def _record(file: io.BufferedWriter, codec: str, kind: str, options: dict[str, str] | None = None) -> None:
    with av.open(_Pipe(file), "w", format=kind, options=options or {}) as container:
        stream = container.add_stream(codec, rate=10 if codec.startswith("lib") and codec != "libopus" else 48_000)
        if isinstance(stream, AudioStream):
            stream.layout = "mono"
        elif isinstance(stream, VideoStream):
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(30):
            if isinstance(stream, VideoStream):
                picture = cast(Any, av.VideoFrame).from_image(Image.new("RGB", (64, 64), (number, 0, 0)))
                picture.pts, picture.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(picture))
            elif isinstance(stream, AudioStream):
                sound = av.AudioFrame(format="s16", layout="mono", samples=4800)
                sound.planes[0].update(bytes(9600))
                sound.sample_rate, sound.pts, sound.time_base = 48_000, number * 4800, Fraction(1, 48_000)
                container.mux(stream.encode(sound))
        if isinstance(stream, VideoStream | AudioStream):
            container.mux(stream.encode(None))


@pytest.mark.parametrize(("flags", "streamable"), [("faststart", True), ("", False)])
async def test_only_a_film_whose_index_comes_first_can_be_streamed(
    probe: Probe, tmp_path: Path, flags: str, *, streamable: bool
) -> None:
    path = film(tmp_path / "a.mp4", options={"movflags": flags} if flags else {})
    assert (await probe.facts(path)).streamable is streamable


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg2video"])
async def test_an_mp4_in_a_codec_that_no_client_plays_is_a_document(probe: Probe, tmp_path: Path, codec: str) -> None:
    kind, why = choose_kind(await probe.facts(film(tmp_path / "a.mp4", codec=codec)))
    assert kind is Kind.DOCUMENT
    assert why is not None
    assert codec in why


@pytest.mark.parametrize(
    ("old", "new", "seen"), [(b"mp4a", b"enca", "encrypted"), (b"mp4a", b"ac-4", "unknown"), (b"", b"", "aac")]
)
async def test_an_m4a_in_a_codec_that_no_client_plays_is_a_document(
    probe: Probe, tmp_path: Path, old: bytes, new: bytes, seen: str
) -> None:
    path = audio(tmp_path / "a.m4a", codec="aac")
    path.write_bytes(path.read_bytes().replace(old, new).replace(b"esds", b"free" if new == b"ac-4" else b"esds"))
    facts = await probe.facts(path)
    assert facts.audio_codec == seen
    assert choose_kind(facts)[0] is (Kind.AUDIO if seen == "aac" else Kind.DOCUMENT)


async def test_an_encrypted_film_is_a_document(probe: Probe, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"encv"))
    kind, why = choose_kind(await probe.facts(path))
    assert (kind, "encrypted" in (why or "")) == (Kind.DOCUMENT, True)


async def test_the_beginning_of_a_stream_without_sound_is_no_song(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        _record(file, "aac", "mp4", options=FRAGMENTS)
    assert (await probe.facts(path)).audio_codec == "aac"
    path.write_bytes(path.read_bytes().partition(b"moof")[0][:-4])
    with pytest.raises(UnreadableMedia, match="no sound in it"):
        await probe.facts(path)


@pytest.mark.parametrize("more", [8, 16, 1000])
async def test_boxes_that_promise_a_little_too_much_are_forgiven_while_every_frame_is_there(
    probe: Probe, tmp_path: Path, more: int
) -> None:
    path = film(tmp_path / "a.mp4", options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") - 4
    data[at : at + 4] = (int.from_bytes(data[at : at + 4]) + more).to_bytes(4)
    path.write_bytes(data)
    assert (await probe.facts(path)).video_codec == "h264"
    path.write_bytes(data[:-1])
    with pytest.raises(UnreadableMedia, match="cut off"):
        await probe.facts(path)


async def test_an_ogg_with_a_picture_is_a_film(probe: Probe, tmp_path: Path) -> None:
    path = video(tmp_path / "a.ogv", codec="libvpx", sound="libopus")
    facts = await probe.facts(path)
    assert (facts.mime, facts.ext, choose_kind(facts)[0]) == ("video/ogg", "ogv", Kind.DOCUMENT)
