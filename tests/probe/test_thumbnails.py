"""Thumbnails of real files, looked at again with Pillow."""

import io
import random
from pathlib import Path

import psutil
import pytest
from PIL import Image

from telewarm.demo.media import DemoFile
from telewarm.errors import UnreadableMedia
from telewarm.models import Kind
from telewarm.probe import Probe
from tests.fixtures.media import audio, jpeg, video


def seen(thumbnail: bytes | None) -> Image.Image:
    assert thumbnail is not None
    assert len(thumbnail) < 200_000
    image = Image.open(io.BytesIO(thumbnail), formats=("JPEG",))
    image.load()
    assert max(image.size) <= 320
    assert image.mode == "RGB"
    return image


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("film.mp4", (320, 180)),
        ("dance.gif", (320, 240)),
        ("song.mp3", (320, 320)),
        ("sunset.jpg", (320, 240)),
        ("waves.png", (320, 240)),
    ],
)
async def test_whatever_can_be_seen_has_a_thumbnail_within_telegrams_limits(
    probe: Probe, demo_files: dict[str, DemoFile], name: str, size: tuple[int, int]
) -> None:
    path = demo_files[name].path
    assert seen(await probe.thumbnail(path, await probe.facts(path))).size == size


@pytest.mark.parametrize("name", ["note.ogg", "leaflet.pdf"])
async def test_what_cannot_be_seen_has_none(probe: Probe, demo_files: dict[str, DemoFile], name: str) -> None:
    path = demo_files[name].path
    assert await probe.thumbnail(path, await probe.facts(path)) is None


async def test_a_song_without_a_cover_has_none(probe: Probe, tmp_path: Path) -> None:
    path = audio(tmp_path / "plain.mp3", codec="libmp3lame")
    assert await probe.thumbnail(path, await probe.facts(path)) is None


async def test_a_damaged_cover_costs_the_thumbnail_and_nothing_else(
    probe: Probe, demo_files: dict[str, DemoFile], tmp_path: Path
) -> None:
    data = demo_files["song.mp3"].path.read_bytes()
    start = data.index(b"\xff\xd8\xff")
    path = tmp_path / "song.mp3"
    path.write_bytes(data[: start + 3] + bytes(200) + data[start + 203 :])
    facts = await probe.facts(path)
    assert facts.title == "Warm Up"
    assert await probe.thumbnail(path, facts) is None


async def test_a_thumbnail_stands_upright(probe: Probe, tmp_path: Path) -> None:
    picture = tmp_path / "turned.jpg"
    picture.write_bytes(jpeg(width=400, height=200, orientation=6))
    assert seen(await probe.thumbnail(picture, await probe.facts(picture))).size == (160, 320)
    film = video(tmp_path / "phone.mp4", width=400, height=200, rotation=90)
    assert seen(await probe.thumbnail(film, await probe.facts(film))).size == (160, 320)


async def test_a_films_thumbnail_is_taken_after_its_black_opening(probe: Probe, tmp_path: Path) -> None:
    path = video(tmp_path / "fade.mp4", seconds=20)  # 200 frames, each one shade lighter than the last
    shade = seen(await probe.thumbnail(path, await probe.facts(path))).getpixel((60, 40))
    assert isinstance(shade, tuple)
    assert 15 <= shade[0] <= 25


async def test_a_small_picture_is_not_enlarged(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "small.jpg"
    path.write_bytes(jpeg(width=40, height=30))
    assert seen(await probe.thumbnail(path, await probe.facts(path))).size == (40, 30)


async def test_transparency_becomes_white(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(path)
    assert seen(await probe.thumbnail(path, await probe.facts(path))).getpixel((25, 25)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("1", "a.png"), ("I;16", "a.png"), ("P", "a.gif"), ("L", "a.jpg"), ("CMYK", "a.jpg"),
        ("RGB", "a.webp"), ("RGB", "a.bmp"), ("RGB", "a.tif"), ("RGB", "a.avif"),
    ],
)  # fmt: skip
async def test_every_colour_mode_and_format_is_drawn(probe: Probe, tmp_path: Path, mode: str, name: str) -> None:
    path = tmp_path / name
    Image.new(mode, (640, 320)).save(path)
    assert seen(await probe.thumbnail(path, await probe.facts(path))).size == (320, 160)


async def test_even_pure_noise_stays_below_200_kb(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    Image.frombytes("RGB", (320, 320), random.Random(1).randbytes(320 * 320 * 3)).save(path)  # noqa: S311 no secret
    seen(await probe.thumbnail(path, await probe.facts(path)))


async def test_no_hidden_part_of_the_original_comes_along(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "heavy.jpg"
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.new("RGB", (64, 48)).save(path, icc_profile=bytes(250_000), comment="secret", exif=exif)
    thumbnail = await probe.thumbnail(path, await probe.facts(path))
    assert seen(thumbnail).info.keys().isdisjoint({"icc_profile", "comment", "exif"})


async def test_a_picture_with_its_pixels_cut_off_is_unreadable(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.effect_mandelbrot((600, 600), (-2, -1.5, 1, 1.5), 100).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(UnreadableMedia, match="cut off"):
        await probe.facts(path)
    with pytest.raises(UnreadableMedia):
        await probe.thumbnail(path, await probe.facts(path, kind=Kind.DOCUMENT))


async def test_a_decoder_takes_no_more_memory_for_the_twentieth_film(probe: Probe, tmp_path: Path) -> None:
    path = video(tmp_path / "film.mp4", seconds=1)
    facts = await probe.facts(path)
    for _ in range(20):
        seen(await probe.thumbnail(path, facts))
    (worker,) = [child for child in psutil.Process().children() if "telewarm.probe.worker" in child.cmdline()]
    assert worker.memory_info().vms < 512 << 20  # half of what it may have
