import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.models import JOINERS, Kind, MediaMetadata
from telewarm.probe import filename_for


def facts(mime: str, ext: str, *, title: str | None = None, performer: str | None = None) -> MediaMetadata:
    return MediaMetadata(bytes=1, mime=mime, ext=ext, title=title, performer=performer)


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
        ("clip.txt", MP4, Kind.VIDEO, "clip.mp4"),
        ("clip.txt", MP4, Kind.DOCUMENT, "clip.txt"),
        ("notes.py", TEXT, Kind.DOCUMENT, "notes.py"),
        ("state.sqlite3", UNKNOWN, Kind.DOCUMENT, "state.sqlite3"),
        ("README", TEXT, Kind.DOCUMENT, "README"),
        (".env", TEXT, Kind.DOCUMENT, "env"),
        ("../../etc/passwd", UNKNOWN, Kind.DOCUMENT, "passwd"),
        ("invoice", facts("application/pdf", "pdf"), Kind.DOCUMENT, "invoice.pdf"),
        ("C:\\Users\\me\\a\r\nb.jpg", JPEG, Kind.DOCUMENT, "ab.jpg"),
        ('say "hi".jpg', JPEG, Kind.PHOTO, "say _hi_.jpg"),
        ("Отчёт за май.pdf", facts("application/pdf", "pdf"), Kind.DOCUMENT, "Отчёт за май.pdf"),
        (None, JPEG, Kind.PHOTO, "photo.jpg"),
        ("", MP4, Kind.VIDEO_NOTE, "video_note.mp4"),
        (None, facts("audio/mpeg", "mp3", title="Warm Up", performer="AC/DC"), Kind.AUDIO, "AC_DC - Warm Up.mp3"),
        (None, MP3, Kind.AUDIO, "audio.mp3"),
        ("می\u200cخواهم.jpg", JPEG, Kind.PHOTO, "می\u200cخواهم.jpg"),
        ("👨\u200d👩\u200d👧 at home.jpg", JPEG, Kind.DOCUMENT, "👨\u200d👩\u200d👧 at home.jpg"),
        ("❤\ufe0f.jpg", JPEG, Kind.PHOTO, "❤\ufe0f.jpg"),
        ("photo\u202egpj.exe", UNKNOWN, Kind.DOCUMENT, "photogpj.exe"),
        ("\u2067photo\u2069\u202dgpj.exe", UNKNOWN, Kind.DOCUMENT, "photogpj.exe"),
        ("a\u200b\u2060\ufeff\u00ad\u200e\u200f\u061cb.txt", TEXT, Kind.DOCUMENT, "ab.txt"),
        ("\u200d\u200c", JPEG, Kind.PHOTO, "photo.jpg"),
        (None, facts("audio/mpeg", "mp3", title="\u202e3pm"), Kind.AUDIO, "3pm.mp3"),
    ],
)
def test_a_name_is_kept_as_far_as_it_is_safe_and_tells_the_truth(
    name: str | None, known: MediaMetadata, kind: Kind, expected: str
) -> None:
    assert filename_for(name, known, kind) == expected


@pytest.mark.parametrize(
    ("name", "mime", "ext"),
    [
        ("IMG_1.dng", "image/tiff", "tif"),
        ("IMG_1.NEF", "image/tiff", "tif"),
        ("mail.msg", "application/x-ole-storage", "doc"),
        ("book.xlsm", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
        ("logo.ai", "application/pdf", "pdf"),
        ("x.3gp", "video/mp4", "mp4"),
        ("song.flac", "audio/mpeg", "mp3"),
        ("letter.doc", "application/rtf", "rtf"),
        ("film.mp4.001", "video/mp4", "mp4"),
        ("archive.7z.001", "application/x-7z-compressed", "7z"),
        ("backup.tar.gz", "application/gzip", "gz"),
        ("notes.c++", "application/pdf", "pdf"),
        ("draft.doc~", "application/x-ole-storage", "doc"),
        ("отчёт.вер2", "application/pdf", "pdf"),
        ("a..pdf", "application/pdf", "pdf"),
    ],
)
def test_a_document_keeps_the_extension_that_its_name_has(name: str, mime: str, ext: str) -> None:
    assert filename_for(name, facts(mime, ext), Kind.DOCUMENT) == name


@pytest.mark.parametrize(
    ("name", "kind", "known"),
    [
        ("x.3gp", Kind.VIDEO, MP4),
        ("x.F4V", Kind.ANIMATION, MP4),
        ("pair.mpo", Kind.PHOTO, JPEG),
        ("book.m4b", Kind.AUDIO, facts("audio/mp4", "m4a")),
        ("ring.m4r", Kind.AUDIO, facts("audio/mp4", "m4a")),
        ("talk.spx", Kind.VOICE, facts("audio/ogg", "ogg")),
    ],
)
def test_another_extension_of_the_same_format_stays(name: str, kind: Kind, known: MediaMetadata) -> None:
    assert filename_for(name, known, kind) == name


@given(st.none() | st.text(max_size=300), st.sampled_from([JPEG, MP3, MP4, TEXT, UNKNOWN]), st.sampled_from(Kind))
def test_any_name_becomes_short_and_safe_and_has_an_extension_where_the_bytes_say_which(
    name: str | None, known: MediaMetadata, kind: Kind
) -> None:
    result = filename_for(name, known, kind)
    stem, dot, extension = result.rpartition(".")
    if kind is not Kind.DOCUMENT or known not in {TEXT, UNKNOWN}:
        assert stem
        assert dot
        assert extension
    assert result
    assert result.translate(dict.fromkeys(map(ord, JOINERS))).isprintable()
    assert not set(result) & set('/\\"<>:|?*;%')
    assert not result.startswith(".")
    assert len(result.encode()) <= 200
