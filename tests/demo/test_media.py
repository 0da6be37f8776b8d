import io
import re
from pathlib import Path

import pytest
from PIL import Image

from telewarm.demo.media import DemoFile, draw, photo
from telewarm.models import Kind

SIZES = {
    "sunset.jpg": (100_000, 400_000),
    "waves.png": (100_000, 400_000),
    "film.mp4": (1_000_000, 3_000_000),
    "dance.gif": (30_000, 400_000),
    "song.mp3": (100_000, 400_000),
    "note.ogg": (10_000, 100_000),
    "leaflet.pdf": (50_000, 400_000),
}


def test_the_demo_draws_every_promised_file_in_a_realistic_size(demo_files: dict[str, DemoFile]) -> None:
    assert demo_files.keys() == SIZES.keys()
    for name, (least, most) in SIZES.items():
        assert least <= demo_files[name].path.stat().st_size <= most, name
    assert [file.kind for file in demo_files.values()] == [
        Kind.PHOTO, Kind.PHOTO, Kind.VIDEO, Kind.ANIMATION, Kind.AUDIO, Kind.VOICE, Kind.DOCUMENT,
    ]  # fmt: skip


@pytest.mark.slow
def test_drawing_twice_gives_the_same_bytes(demo_files: dict[str, DemoFile], tmp_path: Path) -> None:
    for file in draw(tmp_path):
        assert file.path.read_bytes() == demo_files[file.name].path.read_bytes(), file.name


def test_the_film_starts_before_it_is_wholly_loaded(demo_files: dict[str, DemoFile]) -> None:
    data = demo_files["film.mp4"].path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_the_leaflet_has_three_pages_and_no_date(demo_files: dict[str, DemoFile]) -> None:
    data = demo_files["leaflet.pdf"].path.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", data)) == 3
    assert b"Date" not in data


@pytest.mark.parametrize("size", [50_000, 65_536, 200_000, 1_000_003])
def test_a_benchmark_photo_has_exactly_the_size_asked_for_and_decodes(size: int) -> None:
    data = photo(3, bytes=size)
    assert len(data) == size
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == (640, 480)


def test_benchmark_photos_differ_by_seed_and_repeat_by_seed() -> None:
    photos = [photo(seed, bytes=60_000) for seed in range(20)]
    assert len(set(photos)) == 20
    assert photo(3, bytes=60_000) == photos[3]


def test_a_photo_smaller_than_its_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        photo(1, bytes=1000)
