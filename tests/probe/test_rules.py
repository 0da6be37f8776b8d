from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.errors import MediaRuleViolation
from telewarm.models import Kind, MediaMetadata
from telewarm.probe import check, natural_kind, wants_thumbnail

PHOTO = MediaMetadata(bytes=200_000, mime="image/jpeg", ext="jpg", width=1280, height=960)
VIDEO = MediaMetadata(
    bytes=2_000_000,
    mime="video/mp4",
    ext="mp4",
    width=640,
    height=360,
    duration=5,
    video_codec="h264",
    audio_codec="aac",
)
SILENT = replace(VIDEO, audio_codec=None)
NOTE = replace(VIDEO, width=480, height=480)
SONG = MediaMetadata(bytes=300_000, mime="audio/mpeg", ext="mp3", duration=12, audio_codec="mp3")
M4A = replace(SONG, mime="audio/mp4", ext="m4a", audio_codec="aac")
VOICE = MediaMetadata(bytes=30_000, mime="audio/ogg", ext="ogg", duration=6, audio_codec="opus")
GIF = MediaMetadata(bytes=90_000, mime="image/gif", ext="gif", width=320, height=240, duration=2, video_codec="gif")
STICKER = MediaMetadata(bytes=20_000, mime="image/webp", ext="webp", width=512, height=300)
TGS = MediaMetadata(bytes=9_000, mime="application/x-tgsticker", ext="tgs", width=512, height=512, duration=3)
WEBM = MediaMetadata(bytes=50_000, mime="video/webm", ext="webm", width=512, height=512, duration=2, video_codec="vp9")
PDF = MediaMetadata(bytes=90_000, mime="application/pdf", ext="pdf")
TEXT = MediaMetadata(bytes=90, mime="text/plain", ext="txt")

facts = st.builds(
    MediaMetadata,
    bytes=st.integers(0, 1 << 32),
    mime=st.sampled_from(
        sorted({f.mime for f in (PHOTO, VIDEO, SONG, M4A, VOICE, GIF, STICKER, TGS, WEBM, PDF, TEXT)})
    ),
    ext=st.just("x"),
    width=st.none() | st.integers(0, 12_000),
    height=st.none() | st.integers(0, 12_000),
    duration=st.none() | st.floats(0, 1e6),
    video_codec=st.sampled_from([None, "h264", "hevc"]),
    audio_codec=st.sampled_from([None, "aac", "opus", "vorbis"]),
)


def broken(facts: MediaMetadata, kind: Kind, *, local_server: bool = False) -> MediaRuleViolation:
    with pytest.raises(MediaRuleViolation) as caught:
        check(facts, kind, local_server=local_server)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        (Kind.PHOTO, PHOTO),
        (Kind.PHOTO, replace(PHOTO, width=5000, height=5000)),
        (Kind.PHOTO, replace(PHOTO, width=9500, height=475)),
        (Kind.PHOTO, replace(PHOTO, bytes=10_485_760)),
        (Kind.VIDEO, VIDEO),
        (Kind.VIDEO, SILENT),
        (Kind.VIDEO, replace(VIDEO, bytes=50 << 20)),
        (Kind.ANIMATION, GIF),
        (Kind.ANIMATION, SILENT),
        (Kind.VIDEO_NOTE, NOTE),
        (Kind.VIDEO_NOTE, replace(NOTE, width=640, height=640, duration=60.4, bytes=12 << 20)),
        (Kind.AUDIO, SONG),
        (Kind.AUDIO, M4A),
        (Kind.VOICE, VOICE),
        (Kind.VOICE, SONG),
        (Kind.VOICE, M4A),
        (Kind.STICKER, STICKER),
        (Kind.STICKER, TGS),
        (Kind.DOCUMENT, TEXT),
        (Kind.DOCUMENT, replace(PHOTO, width=60_000, height=60_000)),
    ],
)
def test_a_file_at_or_within_the_limits_passes(kind: Kind, facts: MediaMetadata) -> None:
    check(facts, kind, local_server=False)


@pytest.mark.parametrize(
    ("kind", "facts", "rule", "measured"),
    [
        (Kind.PHOTO, replace(PHOTO, bytes=10_485_761), "10 MB", "10,485,761 bytes"),
        (Kind.PHOTO, replace(PHOTO, width=5001, height=5000), "10,000 pixels", "5001 × 5000, 10,001 in sum"),
        (Kind.PHOTO, replace(PHOTO, width=2100, height=100), "20 times", "a ratio of 21.00"),
        (Kind.PHOTO, replace(PHOTO, width=100, height=2001), "20 times", "a ratio of 20.01"),
        (Kind.PHOTO, replace(PHOTO, mime="image/heic"), "JPEG, PNG, WEBP", "the type image/heic"),
        (Kind.PHOTO, replace(PHOTO, width=None, height=None), "JPEG, PNG, WEBP", "no readable picture"),
        (Kind.PHOTO, VIDEO, "JPEG, PNG, WEBP", "the type video/mp4"),
        (Kind.VIDEO, WEBM, "MP4", "the type video/webm"),
        (Kind.VIDEO, TEXT, "MP4", "the type text/plain"),
        (Kind.VIDEO, M4A, "MP4", "the type audio/mp4"),
        (Kind.ANIMATION, replace(SILENT, video_codec="hevc"), "H.264 MP4", "hevc picture"),
        (Kind.ANIMATION, PHOTO, "GIF", "the type image/jpeg"),
        (Kind.VIDEO_NOTE, GIF, "square MP4", "the type image/gif"),
        (Kind.AUDIO, VOICE, "MP3 or M4A", "the type audio/ogg"),
        (Kind.VOICE, replace(VOICE, audio_codec="vorbis"), "OGG with Opus", "audio/ogg with vorbis sound"),
        (Kind.VOICE, PDF, "OGG with Opus", "the type application/pdf"),
        (Kind.STICKER, PHOTO, "WEBP or TGS", "the type image/jpeg"),
        (Kind.STICKER, WEBM, "WEBP or TGS", "the type video/webm"),
        (Kind.STICKER, replace(STICKER, video_codec="webp"), "does not move", "several frames"),
        (Kind.STICKER, replace(TGS, width=256), "512 × 512", "256 × 512"),
        (Kind.STICKER, replace(TGS, duration=3.1), "3 seconds", "3.1 seconds"),
        (Kind.STICKER, replace(TGS, bytes=65_537), "64 KiB", "65,537 bytes"),
        (Kind.PHOTO, replace(STICKER, video_codec="webp"), "does not move", "several frames of WEBP"),
        (Kind.VIDEO, replace(VIDEO, video_codec="mjpeg"), "H.264", "mjpeg picture"),
        (Kind.VIDEO, replace(VIDEO, video_codec="encrypted"), "H.264", "encrypted picture"),
        (Kind.AUDIO, replace(M4A, audio_codec="ac3"), "AAC, MP3 or ALAC", "ac3 sound"),
        (Kind.AUDIO, replace(M4A, audio_codec="unknown"), "AAC, MP3 or ALAC", "unknown sound"),
        (Kind.VOICE, replace(M4A, audio_codec="dts"), "AAC, MP3 or ALAC", "dts sound"),
    ],
)
def test_a_broken_rule_names_the_rule_the_measured_value_and_the_way_out(
    kind: Kind, facts: MediaMetadata, rule: str, measured: str
) -> None:
    error = broken(facts, kind)
    assert rule in error.rule
    assert measured in error.measured
    assert "as a document" in error.cure
    assert error.message == f"{error.rule}; this file has {error.measured}. {error.cure}"


@pytest.mark.parametrize(
    ("facts", "measured"),
    [
        (VIDEO, "640 × 360"),
        (replace(NOTE, width=720, height=720), "720 × 720"),
        (replace(NOTE, duration=61.0), "61.0 seconds"),
        (replace(NOTE, bytes=(12 << 20) + 1), "12,582,913 bytes"),
    ],
)
def test_what_is_no_video_note_is_still_a_video(facts: MediaMetadata, measured: str) -> None:
    error = broken(facts, Kind.VIDEO_NOTE)
    assert measured in error.measured
    assert error.cure == "Send it as a video."
    check(facts, Kind.VIDEO, local_server=False)


def test_an_animation_with_sound_is_to_be_sent_as_a_video() -> None:
    error = broken(VIDEO, Kind.ANIMATION)
    assert error.measured == "aac sound"
    assert "as a video" in error.cure


def test_a_webp_of_another_size_is_no_sticker() -> None:
    assert "640 × 480" in broken(replace(STICKER, width=640, height=480), Kind.STICKER).measured


@given(facts, st.sampled_from(Kind), st.booleans())
def test_an_empty_file_is_refused_as_any_kind(facts: MediaMetadata, kind: Kind, local_server: bool) -> None:  # noqa: FBT001 drawn
    assert "empty" in broken(replace(facts, bytes=0), kind, local_server=local_server).rule


@pytest.mark.parametrize("kind", [Kind.VIDEO, Kind.DOCUMENT, Kind.AUDIO])
def test_above_50_mb_only_a_local_server_takes_a_file_and_it_stops_at_2000_mb(kind: Kind) -> None:
    large = replace(SONG if kind is Kind.AUDIO else VIDEO, bytes=(50 << 20) + 1)
    assert "at most 50 MB from bots" in broken(large, kind).rule
    assert "Bot API server of your own" in broken(large, kind).cure
    check(large, kind, local_server=True)
    check(replace(large, bytes=2000 << 20), kind, local_server=True)
    assert "2000 MB" in broken(replace(large, bytes=(2000 << 20) + 1), kind, local_server=True).rule


def test_a_photo_has_10_mb_on_a_local_server_too() -> None:
    assert "10 MB" in broken(replace(PHOTO, bytes=11 << 20), Kind.PHOTO, local_server=True).rule


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (PHOTO, Kind.PHOTO),
        (replace(PHOTO, bytes=11 << 20), Kind.DOCUMENT),
        (replace(PHOTO, mime="image/heic"), Kind.DOCUMENT),
        (VIDEO, Kind.VIDEO),
        (SILENT, Kind.ANIMATION),
        (replace(SILENT, bytes=10 << 20, duration=60), Kind.ANIMATION),
        (replace(SILENT, bytes=(10 << 20) + 1), Kind.VIDEO),
        (replace(SILENT, duration=61), Kind.VIDEO),
        (replace(SILENT, video_codec="hevc"), Kind.VIDEO),
        (replace(SILENT, video_codec="vvc"), Kind.DOCUMENT),
        (replace(VIDEO, video_codec="encrypted"), Kind.DOCUMENT),
        (replace(GIF, video_codec=None, duration=None), Kind.PHOTO),
        (replace(STICKER, video_codec="webp"), Kind.DOCUMENT),
        (replace(PHOTO, mime="image/png", video_codec="png"), Kind.DOCUMENT),
        (replace(M4A, audio_codec="alac"), Kind.AUDIO),
        (replace(M4A, audio_codec="eac3"), Kind.DOCUMENT),
        (replace(VOICE, mime="video/ogg", video_codec="theora"), Kind.DOCUMENT),
        (replace(TGS, bytes=70_000), Kind.DOCUMENT),
        (WEBM, Kind.DOCUMENT),
        (GIF, Kind.ANIMATION),
        (SONG, Kind.AUDIO),
        (M4A, Kind.AUDIO),
        (VOICE, Kind.VOICE),
        (replace(VOICE, audio_codec="vorbis"), Kind.DOCUMENT),
        (TGS, Kind.STICKER),
        (STICKER, Kind.PHOTO),
        (PDF, Kind.DOCUMENT),
        (TEXT, Kind.DOCUMENT),
    ],
)
def test_the_natural_kind_is_what_a_person_would_expect(facts: MediaMetadata, kind: Kind) -> None:
    assert natural_kind(facts) is kind


@given(facts.filter(lambda facts: 0 < facts.bytes <= 2000 << 20))
def test_the_natural_kind_never_breaks_a_rule(facts: MediaMetadata) -> None:
    check(facts, natural_kind(facts), local_server=True)


@pytest.mark.parametrize("kind", Kind)
def test_thumbnails_go_with_moving_pictures_and_audio_only(kind: Kind) -> None:
    wanting = {Kind.VIDEO: VIDEO, Kind.ANIMATION: GIF, Kind.VIDEO_NOTE: NOTE, Kind.AUDIO: SONG, Kind.DOCUMENT: WEBM}
    assert wants_thumbnail(kind, wanting.get(kind, PHOTO)) is (kind in wanting)
