"""The kind that comes back is decided by the bytes (facts 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.demo.media import DemoFile
from telewarm.sandbox import Sandbox
from telewarm.sandbox.kinds import FileOrigin, decide
from telewarm.sandbox.sniff import Facts, Sniffer
from tests.fixtures.media import audio, jpeg, video
from tests.sandbox.client import USER, call

FILM = Facts(format="mp4", video=True, audio=True, width=320, height=240, duration=2)
SILENT = Facts(format="mp4", video=True, width=320, height=240, duration=2)
SQUARE = Facts(format="mp4", video=True, audio=True, width=240, height=240, duration=2)
LONG = Facts(format="mp4", video=True, audio=True, width=240, height=240, duration=90)
M4A = Facts(format="mp4", audio=True)
GIF = Facts(format="gif", video=True, width=10, height=10)
MP3 = Facts(format="mp3", audio=True)
OPUS = Facts(format="ogg", audio=True, opus=True)
VORBIS = Facts(format="ogg", audio=True)
WEBP = Facts(format="webp", width=512, height=512)
WEBM = Facts(format="webm", video=True)
PNG = Facts(format="png", width=512, height=512)
PDF = Facts(format="pdf")
TGS = Facts(format="gzip")


@pytest.mark.parametrize(
    ("asked", "facts", "kind"),
    [
        ("document", GIF, "animation"),
        ("document", SILENT, "animation"),
        ("document", FILM, "video"),
        ("document", MP3, "audio"),
        ("document", PDF, "document"),
        ("video", FILM, "video"),
        ("video", SILENT, "video"),
        ("video", GIF, "animation"),
        ("video", WEBM, "document"),
        ("animation", GIF, "animation"),
        ("animation", SILENT, "animation"),
        ("animation", FILM, "video"),
        ("animation", PDF, "document"),
        ("audio", MP3, "audio"),
        ("audio", M4A, "audio"),
        ("audio", OPUS, "voice"),
        ("audio", VORBIS, "audio"),
        ("audio", PDF, "document"),
        ("voice", OPUS, "voice"),
        ("voice", MP3, "voice"),
        ("voice", M4A, "voice"),
        ("voice", VORBIS, "audio"),
        ("voice", PDF, "document"),
        ("video_note", SQUARE, "video_note"),
        ("video_note", FILM, "video"),
        ("video_note", LONG, "video"),
        ("video_note", PDF, "document"),
        ("sticker", WEBP, "sticker"),
        ("sticker", WEBM, "document"),
        ("sticker", PNG, "document"),
        ("photo", GIF, "photo"),
    ],
)
def test_a_file_becomes_the_kind_its_bytes_are(asked: str, facts: Facts, kind: str) -> None:
    assert decide(FileOrigin(kind=asked), facts) == kind


def test_detection_by_url_and_by_name_makes_exceptions() -> None:
    assert decide(FileOrigin(kind="document", detect=False), GIF) == "document"
    assert decide(FileOrigin(kind="video", by_url=True), SILENT) == "animation"
    assert decide(FileOrigin(kind="voice", by_url=True, size=(1 << 20) + 1), OPUS) == "document"
    assert decide(FileOrigin(kind="sticker", name="a.TGS"), TGS) == "sticker"
    assert decide(FileOrigin(kind="sticker", name="a.gz"), TGS) == "document"


def sniff(data: bytes, *, step: int = 1 << 20) -> Facts:
    sniffer = Sniffer()
    for at in range(0, len(data), step):
        sniffer.feed(data[at : at + step])
    return sniffer.close(len(data))


@pytest.mark.parametrize(
    ("name", "format_", "streams"),
    [
        ("sunset.jpg", "jpeg", ""),
        ("waves.png", "png", ""),
        ("film.mp4", "mp4", "video audio"),
        ("dance.gif", "gif", "video"),
        ("song.mp3", "mp3", "audio"),
        ("note.ogg", "ogg", "audio"),
        ("leaflet.pdf", "pdf", ""),
    ],
)
def test_real_files_are_read_alike_whole_and_in_crumbs(
    demo_files: dict[str, DemoFile], name: str, format_: str, streams: str
) -> None:
    data = demo_files[name].path.read_bytes()
    facts = sniff(data)
    assert (facts.format, facts.video, facts.audio) == (format_, "video" in streams, "audio" in streams)
    assert sniff(data, step=7) == facts
    if format_ in {"mp4", "ogg", "mp3"}:
        assert facts.duration > 0


def test_lengths_names_and_sides_are_those_of_the_file(tmp_path: Path) -> None:
    film = sniff(video(tmp_path / "a.mp4", width=128, height=96, seconds=2, sound="aac").read_bytes())
    assert (film.width, film.height, round(film.duration), film.audio) == (128, 96, 2, True)
    turned = sniff(video(tmp_path / "b.mp4", width=128, height=96, rotation=90).read_bytes())
    assert (turned.width, turned.height) == (96, 128)
    note = sniff(audio(tmp_path / "a.ogg", codec="libopus", seconds=3).read_bytes())
    assert (note.opus, round(note.duration)) == (True, 3)
    tags = {"title": "Sång", "artist": "Bänd"}
    song = sniff(audio(tmp_path / "a.mp3", codec="libmp3lame", seconds=2, tags=tags).read_bytes())
    assert (song.title, song.performer, round(song.duration)) == ("Sång", "Bänd", 2)
    assert round(sniff(audio(tmp_path / "a.flac", codec="flac", seconds=2).read_bytes()).duration) == 2
    assert sniff(audio(tmp_path / "a.wav", codec="pcm_s16le", seconds=2).read_bytes()).format == "wav"
    only = sniff(audio(tmp_path / "a.m4a", codec="aac", seconds=2).read_bytes())
    assert (only.format, only.video, only.audio) == ("mp4", False, True)


@pytest.mark.parametrize(("orientation", "sides"), [(1, (64, 48)), (6, (48, 64))])
def test_a_photos_sides_are_as_seen(orientation: int, sides: tuple[int, int]) -> None:
    facts = sniff(jpeg(1, orientation=orientation))
    assert (facts.width, facts.height) == sides


@given(
    st.binary(max_size=4000), st.sampled_from([b"", b"\xff\xd8\xff", b"OggS", b"ID3\3\0\0", b"\0\0\0\x18ftyp", b"fLaC"])
)
def test_no_bytes_break_the_sniffer(data: bytes, magic: bytes) -> None:
    whole = sniff(magic + data)
    assert sniff(magic + data, step=3) == whole


async def test_an_animation_has_its_document_beside_it_and_becomes_mp4(
    sandbox: Sandbox, demo_files: dict[str, DemoFile]
) -> None:
    files = {"document": ("dance.gif", demo_files["dance.gif"].path.read_bytes())}
    message = (await call(sandbox, "sendDocument", chat_id=USER, files=files)).result
    animation, document = message["animation"], message["document"]
    assert animation["file_id"] == document["file_id"]
    assert (animation["mime_type"], animation["file_name"]) == ("video/mp4", "dance.gif.mp4")
    assert "width" not in document
    kept = await call(sandbox, "sendDocument", chat_id=USER, files=files, disable_content_type_detection="true")
    assert "animation" not in kept.result


async def test_what_the_sender_says_goes_before_what_the_bytes_say(sandbox: Sandbox, tmp_path: Path) -> None:
    data = video(tmp_path / "a.mp4", sound="aac").read_bytes()
    said: dict[str, Any] = {"width": 1280, "height": 99_999, "duration": 77, "supports_streaming": "true"}
    message = (await call(sandbox, "sendVideo", chat_id=USER, files={"video": ("a.mp4", data)}, **said)).result
    shown = {name: message["video"][name] for name in ("width", "height", "duration", "mime_type")}
    assert shown == {"width": 1280, "height": 10_000, "duration": 77, "mime_type": "video/mp4"}


async def test_a_large_video_that_says_nothing_of_itself_has_no_length_and_no_thumbnail(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    data = video(tmp_path / "a.mp4", sound="aac").read_bytes()
    padded = data + (11_000_000).to_bytes(4) + b"free" + bytes(10_999_992)
    small: dict[str, Any] = (await call(sandbox, "sendVideo", chat_id=USER, files={"video": ("a.mp4", data)})).result
    large = (await call(sandbox, "sendVideo", chat_id=USER, files={"video": ("a.mp4", padded)})).result
    assert small["video"]["width"] == 128
    assert small["video"]["thumbnail"]["width"] == 128
    assert (large["video"]["width"], large["video"]["duration"]) == (0, 0)
    assert "thumbnail" not in large["video"]


async def test_a_photo_comes_in_every_size_below_its_own(sandbox: Sandbox) -> None:
    for (width, height), sides in {
        (64, 48): [64],
        (90, 60): [90],
        (640, 480): [90, 320, 640],
        (3000, 100): None,
        (2000, 1500): [90, 320, 800, 1280, 2000],
    }.items():
        files = {"photo": ("a.jpg", jpeg(1, width=width, height=height))}
        answer = await call(sandbox, "sendPhoto", chat_id=USER, files=files)
        if sides is None:
            assert answer.status == 400
        else:
            assert [size["width"] for size in answer.result["photo"]] == sides
            weights = [(size["file_size"], size["width"] * size["height"]) for size in answer.result["photo"]]
            assert weights == sorted(weights)
