import gzip
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from telewarm.probe.signatures import HEAD_BYTES, UNKNOWN, recognise


def zipped(*names: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in names:
            archive.writestr(name, "application/epub+zip" if name == "mimetype" else "content")
    return sink.getvalue()


def picture(format_name: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(sink, format_name)
    return sink.getvalue()


def box(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0isom" + brand


@pytest.mark.parametrize(
    ("head", "mime", "ext"),
    [
        (picture("JPEG"), "image/jpeg", "jpg"),
        (picture("PNG"), "image/png", "png"),
        (picture("WEBP"), "image/webp", "webp"),
        (picture("BMP"), "image/bmp", "bmp"),
        (picture("GIF"), "image/gif", "gif"),
        (picture("TIFF"), "image/tiff", "tif"),
        (picture("AVIF"), "image/avif", "avif"),
        (picture("PDF"), "application/pdf", "pdf"),
        (box(b"heic"), "image/heic", "heic"),
        (box(b"mif1"), "image/heic", "heic"),
        (box(b"isom"), "video/mp4", "mp4"),
        (box(b"M4A "), "audio/mp4", "m4a"),
        (box(b"qt  "), "video/quicktime", "mov"),
        (b"\0\0\0\x08wide\0\0\x10\0mdat", "video/quicktime", "mov"),
        (b"\x1a\x45\xdf\xa3\x9fB\x82\x84webm", "video/webm", "webm"),
        (b"\x1a\x45\xdf\xa3\x9fB\x82\x88matroska", "video/x-matroska", "mkv"),
        (b"\xff\xfb\x90\x64" + b"\0" * 400, "audio/mpeg", "mp3"),
        (b"\xff\xf1\x50\x80" + b"\0" * 400, "audio/aac", "aac"),
        ((b"\x47" + b"\0" * 187) * 3, "video/mp2t", "ts"),
        (zipped("a.txt"), "application/zip", "zip"),
        (zipped("word/letter.txt"), "application/zip", "zip"),
        (
            zipped("[Content_Types].xml", "word/document.xml"),
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "docx",
        ),
        (zipped("mimetype"), "application/epub+zip", "epub"),
        (gzip.compress(b'{"tgs":1,"v":"5.5.2","fr":60}'), "application/x-tgsticker", "tgs"),
        (gzip.compress(b"some log"), "application/gzip", "gz"),
        (b"\x1f\x8b\x08" + b"\xff" * 40, "application/gzip", "gz"),
        (b"Hello, world\n", "text/plain", "txt"),
        (("ж" * HEAD_BYTES).encode()[1:][1 : HEAD_BYTES + 1], "text/plain", "txt"),
        (b"#EXTM3U\nhttp://127.0.0.1/secret\n", "text/plain", "txt"),
        (b"Hello\0world", "application/octet-stream", "bin"),
        (b"\xff\xff\xff\xff", "application/octet-stream", "bin"),
        (b"", "application/octet-stream", "bin"),
    ],
    ids=lambda value: value if isinstance(value, str) else "head",
)
def test_the_first_bytes_tell_the_type(head: bytes, mime: str, ext: str) -> None:
    signature = recognise(head[:HEAD_BYTES])
    assert (signature.mime, signature.ext) == (mime, ext)


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=200).map(lambda text: "~ " + text))
def test_prose_in_any_script_is_text(text: str) -> None:
    assert recognise(text.encode()).mime == "text/plain"


@given(st.binary(max_size=600))
def test_any_bytes_have_a_signature_with_an_extension(head: bytes) -> None:
    signature = recognise(head)
    assert signature.ext
    assert "/" in signature.mime
    assert signature.demuxer is None or signature != UNKNOWN
