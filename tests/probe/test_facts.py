"""Facts of real files, encoded by us, whatever their names say."""

import shutil
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telewarm.demo.media import DemoFile
from telewarm.errors import MediaRuleViolation, UnreadableMedia
from telewarm.models import Kind, MediaMetadata
from telewarm.probe import Probe, check, natural_kind
from tests.fixtures.media import audio, video

STARTS = [
    b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x18ftypisom", b"OggS\0", b"ID3\x04\0", b"GIF89a",
    b"RIFF\0\0\0\0AVI ", b"\x1a\x45\xdf\xa3", b"fLaC", b"FLV\x01", b"\xff\xfb\x90\x64", b"#!AMR\n", b"\0\0\x01\xba",
    b"",
]  # fmt: skip


async def test_every_demo_file_is_known_by_its_bytes(probe: Probe, demo_files: dict[str, DemoFile]) -> None:
    expected = {
        "sunset.jpg": MediaMetadata(bytes=0, mime="image/jpeg", ext="jpg", width=1280, height=960),
        "waves.png": MediaMetadata(bytes=0, mime="image/png", ext="png", width=800, height=600),
        "film.mp4": MediaMetadata(
            bytes=0,
            mime="video/mp4",
            ext="mp4",
            width=640,
            height=360,
            duration=5,
            video_codec="h264",
            audio_codec="aac",
        ),
        "dance.gif": MediaMetadata(
            bytes=0, mime="image/gif", ext="gif", width=320, height=240, duration=1.92, video_codec="gif"
        ),
        "song.mp3": MediaMetadata(
            bytes=0, mime="audio/mpeg", ext="mp3", duration=12, audio_codec="mp3", title="Warm Up", performer="Telewarm"
        ),
        "note.ogg": MediaMetadata(bytes=0, mime="audio/ogg", ext="ogg", duration=6, audio_codec="opus"),
        "leaflet.pdf": MediaMetadata(bytes=0, mime="application/pdf", ext="pdf"),
    }
    for name, file in demo_files.items():
        facts = await probe.facts(file.path)
        assert facts.bytes == file.path.stat().st_size
        assert facts.duration == pytest.approx(expected[name].duration, abs=0.05)
        assert _without_measures(facts) == _without_measures(expected[name])
        assert natural_kind(facts) is file.kind
        check(facts, file.kind, local_server=False)


def _without_measures(facts: MediaMetadata) -> tuple[object, ...]:
    return (facts.mime, facts.ext, facts.width, facts.height, facts.video_codec, facts.audio_codec, facts.title,
            facts.performer)  # fmt: skip


@pytest.mark.parametrize("wrong_name", ["film.txt", "film.jpg", "film", "film.mp3"])
async def test_the_name_has_no_say(
    probe: Probe, demo_files: dict[str, DemoFile], tmp_path: Path, wrong_name: str
) -> None:
    path = tmp_path / wrong_name
    shutil.copy(demo_files["film.mp4"].path, path)
    assert natural_kind(await probe.facts(path)) is Kind.VIDEO


async def test_text_renamed_to_a_video_is_text_and_refused_as_a_video(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "holiday.mp4"
    path.write_text("Not a film at all.\n")
    facts = await probe.facts(path)
    assert facts.mime == "text/plain"
    with pytest.raises(MediaRuleViolation, match="Send it as a document"):
        check(facts, Kind.VIDEO, local_server=False)


@pytest.mark.parametrize(("rotation", "sides"), [(0, (128, 96)), (90, (96, 128)), (-90, (96, 128)), (180, (128, 96))])
async def test_a_rotated_video_has_the_sides_that_are_seen(
    probe: Probe, tmp_path: Path, rotation: int, sides: tuple[int, int]
) -> None:
    facts = await probe.facts(video(tmp_path / "phone.mp4", rotation=rotation))
    assert (facts.width, facts.height) == sides


@pytest.mark.parametrize(
    ("source", "mime", "codecs"),
    [
        (("a.mp4", "libx264", "aac"), "video/mp4", ("h264", "aac")),
        (("a.mp4", "libx265", None), "video/mp4", ("hevc", None)),
        (("a.mov", "libx264", None), "video/quicktime", ("h264", None)),
        (("a.webm", "libvpx-vp9", "libopus"), "video/webm", ("vp9", "opus")),
        (("a.mkv", "libx264", "libmp3lame"), "video/x-matroska", ("h264", "mp3")),
        (("a.avi", "mpeg4", None), "video/x-msvideo", ("mpeg4", None)),
        (("a.ts", "mpeg2video", None), "video/mp2t", ("mpeg2video", None)),
        (("a.mpg", "mpeg2video", None), "video/mpeg", ("mpeg2video", None)),
        (("a.flv", "flv", None), "video/x-flv", ("flv1", None)),
        (("a.wmv", "wmv2", None), "video/x-ms-asf", ("wmv2", None)),
    ],
)
async def test_video_containers_and_codecs_are_told_apart(
    probe: Probe, tmp_path: Path, source: tuple[str, str, str | None], mime: str, codecs: tuple[str, str | None]
) -> None:
    name, codec, sound = source
    facts = await probe.facts(video(tmp_path / name, codec=codec, sound=sound))
    assert facts.mime == mime
    assert (facts.video_codec, facts.audio_codec) == codecs
    assert (facts.width, facts.height) == (128, 96)
    assert facts.duration == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (("a.m4a", "aac"), ("audio/mp4", "m4a", Kind.AUDIO)),
        (("a.mp4", "aac"), ("audio/mp4", "m4a", Kind.AUDIO)),
        (("a.mp3", "libmp3lame"), ("audio/mpeg", "mp3", Kind.AUDIO)),
        (("a.ogg", "libopus"), ("audio/ogg", "ogg", Kind.VOICE)),
        (("a.ogg", "flac"), ("audio/ogg", "ogg", Kind.DOCUMENT)),
        (("a.flac", "flac"), ("audio/flac", "flac", Kind.DOCUMENT)),
        (("a.wav", "pcm_s16le"), ("audio/wav", "wav", Kind.DOCUMENT)),
        (("a.aac", "aac"), ("audio/aac", "aac", Kind.DOCUMENT)),
        (("a.webm", "libopus"), ("audio/webm", "weba", Kind.DOCUMENT)),
        (("a.mka", "aac"), ("audio/x-matroska", "mka", Kind.DOCUMENT)),
    ],
)
async def test_sound_files_are_told_apart_and_their_tags_read(
    probe: Probe, tmp_path: Path, source: tuple[str, str], expected: tuple[str, str, Kind]
) -> None:
    name, codec = source
    tags = {"title": "Ночь\u0007", "artist": "Some One"}
    facts = await probe.facts(audio(tmp_path / name, codec=codec, tags=tags))
    assert (facts.mime, facts.ext, natural_kind(facts)) == expected
    assert facts.duration == pytest.approx(1, abs=0.15)
    assert facts.width is None
    assert facts.video_codec is None
    if facts.ext not in {"wav", "aac"}:
        assert (facts.title, facts.performer) == ("Ночь", "Some One")


async def test_a_silent_square_mp4_may_be_a_video_note_and_an_animation(probe: Probe, tmp_path: Path) -> None:
    facts = await probe.facts(video(tmp_path / "round.mp4", width=96))
    check(facts, Kind.VIDEO_NOTE, local_server=False)
    check(facts, Kind.ANIMATION, local_server=False)


@pytest.mark.parametrize(("name", "keep"), [("film.mp4", 3000), ("dance.gif", 10), ("song.mp3", 30), ("note.ogg", 40),
                                            ("sunset.jpg", 15), ("waves.png", 18)])  # fmt: skip
async def test_a_file_cut_off_is_unreadable_but_still_a_document(
    probe: Probe, demo_files: dict[str, DemoFile], tmp_path: Path, name: str, keep: int
) -> None:
    path = tmp_path / name
    path.write_bytes(demo_files[name].path.read_bytes()[:keep])
    with pytest.raises(UnreadableMedia) as caught:
        await probe.facts(path)
    assert str(tmp_path) not in caught.value.message
    facts = await probe.facts(path, kind=Kind.DOCUMENT)
    assert facts.bytes == keep
    check(facts, Kind.DOCUMENT, local_server=False)


async def test_a_codec_that_nobody_knows_is_a_problem_of_that_file_not_a_crash(probe: Probe, tmp_path: Path) -> None:
    path = video(tmp_path / "odd.mp4", sound="aac")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"mp4a", b"zzzz"))
    assert (await probe.facts(path)).video_codec == "h264"
    path.write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(UnreadableMedia, match="unknown codec"):
        await probe.facts(path)


async def test_a_playlist_in_disguise_opens_nothing_else(
    probe: Probe, demo_files: dict[str, DemoFile], tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    path.write_text(f"#EXTM3U\n#EXTINF:5,\nfile://{demo_files['film.mp4'].path}\n")
    facts = await probe.facts(path)
    assert (facts.mime, facts.width) == ("text/plain", None)


async def test_an_enormous_png_is_measured_without_being_decoded_and_refused_as_a_photo(
    probe: Probe, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bomb())
    facts = await probe.facts(path)
    assert (facts.width, facts.height) == (60_000, 60_000)
    with pytest.raises(MediaRuleViolation, match="120,000 in sum"):
        check(facts, Kind.PHOTO, local_server=False)
    with pytest.raises(UnreadableMedia, match="more than the 50,000,000"):
        await probe.thumbnail(path, facts)


def png_bomb() -> bytes:
    """A PNG of 3.6 gigapixels in a few bytes: the header alone, which is all that anyone should read."""
    sides = (60_000).to_bytes(4) * 2
    header = b"IHDR" + sides + b"\x08\x02\0\0\0"
    chunks = (header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) for chunk in chunks
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(STARTS), st.binary(min_size=1, max_size=2000))
async def test_random_bytes_give_facts_or_unreadable_media_and_nothing_else(
    probe: Probe, tmp_path: Path, start: bytes, rest: bytes
) -> None:
    path = tmp_path / "random"
    path.write_bytes(start + rest)
    try:
        facts = await probe.facts(path)
    except UnreadableMedia:
        facts = await probe.facts(path, kind=Kind.DOCUMENT)
    assert facts.bytes == len(start + rest)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["film.mp4", "dance.gif", "song.mp3", "note.ogg"]),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=30),
)
async def test_a_damaged_file_gives_facts_or_unreadable_media_and_nothing_else(
    probe: Probe, demo_files: dict[str, DemoFile], tmp_path: Path, name: str, damage: list[tuple[int, int]]
) -> None:
    data = bytearray(demo_files[name].path.read_bytes()[:60_000])
    for place, value in damage:
        data[place] = value
    path = tmp_path / "damaged"
    path.write_bytes(data)
    try:
        facts = await probe.facts(path)
        await probe.thumbnail(path, facts)
    except UnreadableMedia:
        assert (await probe.facts(path, kind=Kind.DOCUMENT)).bytes == len(data)


async def test_a_tag_that_is_no_utf_8_is_read_alike_by_every_decoder_version(probe: Probe, tmp_path: Path) -> None:
    path = audio(tmp_path / "song.m4a", codec="aac", tags={"title": "Cafe Noir", "artist": "Some One"})
    path.write_bytes(path.read_bytes().replace(b"Cafe Noir", b"Caf\xe9 Noir"))
    facts = await probe.facts(path)
    assert (facts.title, facts.performer) == ("Café Noir", "Some One")
