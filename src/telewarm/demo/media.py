"""The demo's media, drawn and encoded here: the same bytes every time, no file of anyone else's."""

from __future__ import annotations

import functools
import io
import math
import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal, cast

import av
from av.container import OutputContainer
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

from telewarm.models import Kind

RATE: Final = 48_000  # sound samples a second; the only rate that Opus, MP3 and AAC share
FPS: Final = 25
VIDEO_SECONDS: Final = 5
BITEXACT: Final = {"fflags": "+bitexact"}  # no random serial numbers, no library versions
SEGMENT: Final = 65_533  # the longest JPEG comment
CHORD: Final = (261.63, 329.63, 392.0, 523.25)  # C major, in Hz
NIGHT: Final = ("#1b2a6b", "#e4577a", "#ffd27d")
SEA: Final = ("#0b3954", "#0e9594", "#f2f5d0")
FOREST: Final = ("#10312b", "#3f8f5b", "#f4e285")
WORD: Final = "Telewarm"

Layout = Literal["mono", "stereo"]
Palette = tuple[str, str, str]  # dark, middle, light


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoFile:
    """`kind`: what the demo sends it as."""

    path: Path
    kind: Kind
    name: str


def draw(folder: Path) -> list[DemoFile]:
    """Write the seven demo files into `folder`, which exists; those that are there stay. About 2 s of CPU for all."""
    files = []
    for name, kind, make in CATALOGUE:
        path = folder / name
        if not path.exists():
            half = path.with_name(f".half-{name}")  # a killed demo leaves no half file that looks whole
            make(half)
            half.replace(path)
        files.append(DemoFile(path=path, kind=kind, name=name))
    return files


def photo(seed: int, *, bytes: int) -> bytes:  # noqa: A002 the unit is the name
    """A JPEG of exactly `bytes` that differs from that of any other seed; made in well under 2 ms.

    Raises ValueError below some 25 kB, the size of the picture that they all show.
    """
    base = _base_photo()
    missing = bytes - len(base)
    if missing < 32:
        raise ValueError(f"a photo has at least {len(base) + 32} bytes")
    count = math.ceil(missing / (SEGMENT + 4))
    sizes = [missing // count + (index < missing % count) - 4 for index in range(count)]
    source = random.Random(seed)  # noqa: S311 no secret
    comments = (b"\xff\xfe" + (size + 2).to_bytes(2) + source.randbytes(size) for size in sizes)
    return b"".join((base[:2], *comments, base[2:]))


def _sunset(path: Path) -> None:
    path.write_bytes(_jpeg(_landscape((1280, 960), NIGHT, sun=0.3, grain=20), quality=88))


def _waves(path: Path) -> None:
    _landscape((800, 600), SEA, sun=0.72, grain=2).save(path, "PNG")


def _film(path: Path) -> None:
    options = BITEXACT | {"movflags": "+faststart"}
    with av.open(path, "w", format="mp4", container_options=options) as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "threads": "1"})
        video.width, video.height, video.pix_fmt, video.bit_rate = 640, 360, "yuv420p", 2_800_000
        sound = container.add_stream("aac", rate=RATE, layout="stereo")
        for number, picture in enumerate(_film_pictures()):
            frame = av.VideoFrame.from_bytes(picture.convert("RGBA").tobytes(), *picture.size)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for chunk in _sound(VIDEO_SECONDS, layout="stereo"):
            container.mux(sound.encode(chunk))
        container.mux(sound.encode())


def _film_pictures() -> Iterator[Image.Image]:
    frames = VIDEO_SECONDS * FPS
    scene = _landscape((640, 360), NIGHT, sun=None, grain=0)
    grain = _grain((960, 540), 40)
    for number in range(frames):
        share = number / frames
        picture = scene.copy()
        _draw_sun(picture, NIGHT, x=0.1 + 0.8 * share, y=0.45 - 0.3 * math.sin(math.pi * share))
        left, top = (number * 37) % 320, (number * 53) % 180
        yield Image.blend(picture, grain.crop((left, top, left + 640, top + 360)), 0.06)


def _dance(path: Path) -> None:
    count = 24
    pictures = []
    for number in range(count):
        picture = _gradient((320, 240), FOREST)
        pen = ImageDraw.Draw(picture)
        for dot in range(8):
            angle = 2 * math.pi * (dot / 8 + number / count)
            x, y = 160 + 80 * math.cos(angle), 120 + 60 * math.sin(2 * angle)
            pen.ellipse((x - 14, y - 14, x + 14, y + 14), fill=(255, 255 - 20 * dot, 40 + 25 * dot))
        _write_word(picture, 34)
        pictures.append(picture.quantize(64))
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:], duration=80, loop=0)


def _song(path: Path) -> None:
    """An MP3 with title, performer and a cover."""
    with av.open(path, "w", format="mp3", container_options=BITEXACT) as container:
        container.metadata.update({"title": "Warm Up", "artist": "Telewarm", "album": "The Demo"})
        sound = container.add_stream("libmp3lame", rate=RATE, layout="stereo")
        sound.bit_rate = 160_000
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 480
        cover.pix_fmt = "yuvj420p"
        cover.disposition = cast(Any, av.stream.Disposition.attached_pic.value)  # a number also for a PyAV before 18
        picture = av.Packet(_jpeg(_landscape((480, 480), SEA, sun=0.5, grain=6), quality=85))
        picture.stream = cover
        picture.pts = picture.dts = 0
        container.start_encoding()
        container.mux(picture)
        _encode_sound(container, 12, layout="stereo")


def _note(path: Path) -> None:
    with av.open(path, "w", format="ogg", container_options=BITEXACT) as container:
        sound = container.add_stream("libopus", rate=RATE, layout="mono", options={"application": "voip"})
        sound.bit_rate = 32_000
        _encode_sound(container, 6, layout="mono")


def _encode_sound(container: OutputContainer, seconds: int, *, layout: Layout) -> None:
    stream = container.streams.audio[0]
    for chunk in _sound(seconds, layout=layout):
        container.mux(stream.encode(chunk))
    container.mux(stream.encode())


def _leaflet(path: Path) -> None:
    pages = [_landscape((620, 877), palette, sun=0.5, grain=8) for palette in (SEA, NIGHT, FOREST)]
    undated = {"creationDate": None, "modDate": None}
    pages[0].save(path, "PDF", save_all=True, append_images=pages[1:], resolution=75, title="Telewarm", **undated)


CATALOGUE: Final[tuple[tuple[str, Kind, Callable[[Path], None]], ...]] = (
    ("sunset.jpg", Kind.PHOTO, _sunset),
    ("waves.png", Kind.PHOTO, _waves),
    ("film.mp4", Kind.VIDEO, _film),
    ("dance.gif", Kind.ANIMATION, _dance),
    ("song.mp3", Kind.AUDIO, _song),
    ("note.ogg", Kind.VOICE, _note),
    ("leaflet.pdf", Kind.DOCUMENT, _leaflet),
)


@functools.cache
def _base_photo() -> bytes:
    return _jpeg(_landscape((640, 480), FOREST, sun=0.6, grain=3), quality=75)


def _landscape(size: tuple[int, int], palette: Palette, *, sun: float | None, grain: int) -> Image.Image:
    """A sky, hills, the word; `sun` is its place from left to right, `grain` the strength of a film-like texture."""
    picture = _gradient(size, palette)
    if sun is not None:
        _draw_sun(picture, palette, x=sun, y=0.36)
    width, height = size
    pen = ImageDraw.Draw(picture)
    for layer, shade in enumerate(("#2b3a67", "#1f2a4d", "#141b33")):
        base, swing = height * (0.62 + 0.13 * layer), height * 0.07
        ridge = [(x, base - swing * math.sin(x / width * (5 + 2 * layer) + 2 * layer)) for x in range(0, width + 8, 8)]
        pen.polygon([(0, height), *ridge, (width, height)], fill=shade)
    _write_word(picture, width // 7)
    return Image.blend(picture, _grain(size, 255), grain / 255) if grain else picture


def _gradient(size: tuple[int, int], palette: Palette) -> Image.Image:
    dark, middle, light = palette
    slope = Image.linear_gradient("L").resize(size, Image.Resampling.BICUBIC)
    return ImageOps.colorize(slope, black=dark, mid=middle, white=light)


def _draw_sun(picture: Image.Image, palette: Palette, *, x: float, y: float) -> None:
    width, height = picture.size
    pen = ImageDraw.Draw(picture, "RGBA")
    colour = ImageColor.getrgb(palette[2])
    for ring in range(6):
        radius = height * (0.26 - 0.03 * ring)
        box = (x * width - radius, y * height - radius, x * width + radius, y * height + radius)
        pen.ellipse(box, fill=(*colour, 30 + 40 * ring))


def _write_word(picture: Image.Image, size: int) -> None:
    width, height = picture.size
    font = ImageFont.load_default(size)
    pen = ImageDraw.Draw(picture)
    pen.text((width / 2 + 2, height * 0.84 + 2), WORD, font=font, anchor="mm", fill="#000000")
    pen.text((width / 2, height * 0.84), WORD, font=font, anchor="mm", fill="#ffffff")


def _grain(size: tuple[int, int], strength: int) -> Image.Image:
    width, height = size
    noise = random.Random(width * height + strength).randbytes(width * height)  # noqa: S311 no secret
    return Image.frombytes("L", size, noise).convert("RGB")


def _sound(seconds: int, *, layout: Layout) -> Iterator[av.AudioFrame]:
    """A chord that swells and fades, one frame a note of a quarter second."""
    channels = 2 if layout == "stereo" else 1
    samples = RATE // 4
    for number in range(4 * seconds):
        pitch = CHORD[number % len(CHORD)]
        frame = av.AudioFrame(format="s16", layout=layout, samples=samples)
        frame.planes[0].update(_note_samples(pitch, samples, channels))
        frame.sample_rate, frame.pts, frame.time_base = RATE, number * samples, Fraction(1, RATE)
        yield frame


@functools.cache
def _note_samples(pitch: float, samples: int, channels: int) -> bytes:
    turn = 2 * math.pi * pitch / RATE
    swell = math.pi / samples
    wave = (int(9000 * math.sin(turn * index) * math.sin(swell * index)) for index in range(samples))
    return array("h", (value for value in wave for _ in range(channels))).tobytes()


def _jpeg(picture: Image.Image, *, quality: int) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return sink.getvalue()
