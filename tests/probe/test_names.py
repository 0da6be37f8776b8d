import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.model import Facts, Kind
from telewarm.probe import filename_for


def facts(mime: str, ext: str, *, title: str | None = None, performer: str | None = None) -> Facts:
    return Facts(bytes=1, mime=mime, ext=ext, title=title, performer=performer)


JPEG = facts("image/jpeg", "jpg")
MP3 = facts("audio/mpeg", "mp3")
MP4 = facts("video/mp4", "mp4")
TEXT = facts("text/plain", "txt")
UNKNOWN = facts("application/octet-stream", "bin")


@pytest.mark.parametrize(
    ("name", "known", "kind", "expected"),
    [
        ("holiday.jpeg", JPEG, Kind.PHOTO, "holiday.jpeg"),
        ("holiday.png", JPEG, Kind.PHOTO, "holiday.jpg"),
        ("holiday", JPEG, Kind.PHOTO, "holiday.jpg"),
        ("song.bin", MP3, Kind.AUDIO, "song.mp3"),
        ("Mr. Song", MP3, Kind.AUDIO, "Mr. Song.mp3"),
        ("clip.txt", MP4, Kind.DOCUMENT, "clip.mp4"),
        ("notes.py", TEXT, Kind.DOCUMENT, "notes.py"),
        ("state.sqlite3", UNKNOWN, Kind.DOCUMENT, "state.sqlite3"),
        ("README", TEXT, Kind.DOCUMENT, "README.txt"),
        (".env", TEXT, Kind.DOCUMENT, "env.txt"),
        ("../../etc/passwd", UNKNOWN, Kind.DOCUMENT, "passwd.bin"),
        ("C:\\Users\\me\\a\r\nb.jpg", JPEG, Kind.DOCUMENT, "ab.jpg"),
        ('say "hi".jpg', JPEG, Kind.PHOTO, "say _hi_.jpg"),
        ("Отчёт за май.pdf", facts("application/pdf", "pdf"), Kind.DOCUMENT, "Отчёт за май.pdf"),
        (None, JPEG, Kind.PHOTO, "photo.jpg"),
        ("", MP4, Kind.VIDEO_NOTE, "video_note.mp4"),
        (None, facts("audio/mpeg", "mp3", title="Warm Up", performer="AC/DC"), Kind.AUDIO, "AC_DC - Warm Up.mp3"),
        (None, MP3, Kind.AUDIO, "audio.mp3"),
    ],
)
def test_a_name_is_kept_as_far_as_it_is_safe_and_tells_the_truth(
    name: str | None, known: Facts, kind: Kind, expected: str
) -> None:
    assert filename_for(name, known, kind) == expected


@given(st.none() | st.text(max_size=300), st.sampled_from([JPEG, MP3, MP4, TEXT, UNKNOWN]), st.sampled_from(Kind))
def test_any_name_becomes_short_safe_and_has_an_extension(name: str | None, known: Facts, kind: Kind) -> None:
    result = filename_for(name, known, kind)
    stem, dot, extension = result.rpartition(".")
    assert stem
    assert dot
    assert extension
    assert result.isprintable()
    assert not set(result) & set('/\\"<>:|?*;%')
    assert not result.startswith(".")
    assert len(result.encode()) <= 200
