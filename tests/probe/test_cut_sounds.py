"""Sounds whose end is missing, and whole ones that look alike."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.fixtures import odd_media as odd
from tests.fixtures.media import audio
from tests.probe.conftest import LookAt


@pytest.mark.parametrize("share", [30, 60, 90, 99])
@pytest.mark.parametrize("bitrate", [1, 9, 14])
async def test_an_mp3_without_an_index_that_ends_within_a_frame_is_cut_off(
    look: LookAt, bitrate: int, share: int
) -> None:
    whole = odd.id3((b"TIT2", b"\3x")) + odd.frame(bitrate) * 100
    for end in (b"", b"TAG" + bytes(125), bytes(1000)):
        assert (await look(whole + end)).error is None
    frame = len(odd.frame(bitrate))
    cut = whole[: len(whole) * share // 100 // frame * frame]
    error = (await look(cut)).error
    assert error is not None
    assert "cut off" in error.message
    assert (await look(cut + b"TAG" + bytes(125))).error is None  # so it was when it was tagged


@pytest.mark.parametrize("share", [60, 90, 99])
async def test_an_mp3_with_an_index_and_a_long_tag_is_cut_off_where_it_is(
    look: LookAt, tmp_path: Path, share: int
) -> None:
    sound = audio(tmp_path / "a.mp3", codec="libmp3lame", seconds=10).read_bytes()
    tag = odd.id3((b"APIC", bytes(100_000)))
    assert (await look(tag + sound)).error is None
    assert (await look(tag + sound[: len(sound) * share // 100])).error is not None


@pytest.mark.parametrize(("codec", "name"), [("tta", "a.tta"), ("wavpack", "a.wv"), ("libmp3lame", "a.flv")])
async def test_a_sound_whose_header_promises_more_than_there_is_was_cut_off(
    look: LookAt, tmp_path: Path, codec: str, name: str
) -> None:
    whole = audio(tmp_path / name, codec=codec, seconds=10).read_bytes()
    facts, error = await look(whole)
    assert error is None
    assert facts.duration == pytest.approx(10, abs=0.2)
    for share in (30, 60):
        assert (await look(whole[: len(whole) * share // 100])).error is not None


async def test_a_long_wav_knows_its_length_in_64_bits(look: LookAt) -> None:
    sound = bytes(400_000)
    layout = struct.pack("<HHIIHH", 1, 1, 8000, 16_000, 2, 16)
    sizes = struct.pack("<QQQI", 80 + len(sound), len(sound), len(sound) // 2, 0)
    whole = (
        b"RF64" + b"\xff" * 4 + b"WAVE"
        + b"ds64" + struct.pack("<I", len(sizes)) + sizes
        + b"fmt " + struct.pack("<I", len(layout)) + layout
        + b"data" + b"\xff" * 4 + sound
    )  # fmt: skip
    facts, error = await look(whole)
    assert (error, facts.duration) == (None, 25)
    assert (await look(whole[:300_000])).error is not None
