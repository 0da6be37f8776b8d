"""Files as the world has them: what real ones got wrong is made here again, in a few bytes."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageStat

from telewarm.errors import MediaRuleViolation, UnreadableMedia
from telewarm.models import Kind, MediaMetadata
from telewarm.probe import Probe, check, choose_kind
from telewarm.probe.id3 import read_tags
from tests.fixtures import odd_media as odd
from tests.fixtures.media import audio, jpeg, video
from tests.probe.conftest import LookAt

XMP = odd.app1(b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")


@pytest.fixture
def facts_of(look: LookAt) -> Callable[[bytes], Awaitable[MediaMetadata]]:
    async def facts(data: bytes) -> MediaMetadata:
        found = await look(data)
        assert found.error is None, found.error
        return found.facts

    return facts


FactsOf = Callable[[bytes], Awaitable[MediaMetadata]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "extra", [XMP, XMP * 3, odd.app1(b"Exif\0\0" + odd.exif(1)), odd.app1(b""), b"hello", b"\0" * 9]
)
async def test_a_turned_jpeg_is_read_past_whatever_follows_its_exif(
    facts_of: FactsOf, orientation: int, extra: bytes
) -> None:
    facts = await facts_of(odd.behind_app1(jpeg(width=64, height=48, orientation=orientation), extra))
    assert (facts.width, facts.height) == ((48, 64) if orientation >= 5 else (64, 48))


@pytest.mark.parametrize("stray", [b"hello", b"\xff\xff", bytes(60_000)])
async def test_stray_bytes_between_the_segments_of_a_jpeg_are_passed_over(facts_of: FactsOf, stray: bytes) -> None:
    plain = odd.saved(odd.noise(), "JPEG")
    at = plain.index(b"\xff\xdb")
    facts = await facts_of(plain[:at] + stray + plain[at:])
    assert (facts.width, facts.height) == (64, 48)


@pytest.mark.parametrize(
    "data",
    [
        odd.png(1 << 31, 10),
        odd.png(10, 0xFFFFFFFF),
        odd.png(0, 10),
        odd.bmp(-(2**31), 1),
        odd.bmp(0, 5),
        odd.lottie(w=1 << 40),
    ],
    ids=["png-wide", "png-high", "png-none", "bmp", "bmp-none", "sticker"],
)
async def test_sides_that_cannot_be_are_a_fault_of_the_file(look: LookAt, data: bytes) -> None:
    facts, error = await look(data)
    assert (facts.width, facts.height) == (None, None)
    assert isinstance(error, UnreadableMedia)
    assert "--kind document" in error.message


async def test_sides_of_an_avif_that_cannot_be_are_left_out(facts_of: FactsOf) -> None:
    avif = odd.saved(Image.new("RGB", (64, 48), "red"), "AVIF")
    at = avif.index(b"ispe") + 8
    facts = await facts_of(avif[:at] + b"\xff" * 8 + avif[at + 8 :])
    assert (facts.mime, facts.width) == ("image/avif", None)


async def test_a_sticker_without_an_end_in_sight_says_no_length(facts_of: FactsOf) -> None:
    assert (await facts_of(odd.lottie(op=1e300, fr=1e-300))).duration is None


@pytest.mark.parametrize(
    ("codec", "mime"),
    [("flac", "audio/flac"), ("aac", "audio/aac"), ("ac3", "audio/ac3"), ("eac3", "audio/eac3"),
     ("tta", "audio/x-tta"), ("mp3", "audio/mpeg")],
)  # fmt: skip
@pytest.mark.parametrize("tags", [1, 3])
async def test_what_follows_an_id3_tag_is_what_counts(
    facts_of: FactsOf, tmp_path: Path, codec: str, mime: str, tags: int
) -> None:
    encoder = "libmp3lame" if codec == "mp3" else codec
    data = audio(tmp_path / f"a.{codec}", codec=encoder, seconds=2).read_bytes()
    cover = (b"APIC", b"\0" + bytes(6000))
    facts = await facts_of(odd.id3((b"TIT2", b"\3Title"), cover) * tags + data)
    assert (facts.mime, facts.audio_codec) == (mime, codec)
    if "ac3" not in codec:  # of which FFmpeg guesses
        assert facts.duration == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("brand", [b"mif1", b"mif2", b"mif3", b"avci", b"jpeg", b"j2ki", b"miaf", b"vvic", b"zzzz"])
async def test_a_heif_is_a_picture_whatever_its_first_brand(facts_of: FactsOf, brand: bytes) -> None:
    avif = odd.saved(Image.new("RGB", (64, 48), "red"), "AVIF")
    facts = await facts_of(avif[:8] + brand + avif[12:])
    assert facts.mime in {"image/avif", "image/heic"}
    assert (facts.width, facts.height) == (64, 48)
    assert choose_kind(facts)[0] is Kind.DOCUMENT


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (odd.ftyp(b"crx ", b"crx ", b"isom") + odd.box(b"moov", b""), "image/x-canon-cr3"),
        (odd.ftyp(b"heic", b"mif1") + odd.box(b"meta", bytes(8)), "image/heic"),
        (odd.ftyp(b"none") + odd.box(b"junk", bytes(80)), "application/octet-stream"),
    ],
)
async def test_brands_of_no_film_are_no_film(facts_of: FactsOf, data: bytes, mime: str) -> None:
    facts = await facts_of(data)
    assert facts.mime == mime
    assert choose_kind(facts)[0] is Kind.DOCUMENT


PICTURES = {
    "JPEG": {}, "progressive": {"progressive": True}, "PNG": {}, "WEBP": {}, "lossless": {"lossless": True}, "BMP": {},
    "GIF": {},
}  # fmt: skip


def picture(style: str) -> bytes:
    name = {"progressive": "JPEG", "lossless": "WEBP"}.get(style, style)
    return odd.saved(odd.noise(400, 300), name, **PICTURES[style])


@pytest.mark.parametrize("style", PICTURES)
async def test_a_picture_that_is_cut_off_is_noticed_wherever(look: LookAt, style: str) -> None:
    whole = picture(style)
    assert (await look(whole)).error is None
    assert (await look(whole + bytes(70_000))).error is None
    for share in (0.1, 0.5, 0.6, 0.9, 0.99):
        facts, error = await look(whole[: int(len(whole) * share)])
        assert isinstance(error, UnreadableMedia), (style, share)
        assert facts.width is None


@pytest.mark.parametrize(
    ("style", "lost"), [("JPEG", 2), ("progressive", 2), ("PNG", 4), ("PNG", 12), ("GIF", 1), ("GIF", 2), ("WEBP", 1)]
)
async def test_a_picture_that_lacks_nothing_but_marks_is_taken(facts_of: FactsOf, style: str, lost: int) -> None:
    facts = await facts_of(picture(style)[:-lost])
    assert (facts.width, facts.height) == (400, 300)
    assert choose_kind(facts)[0] is Kind.PHOTO


async def test_headers_without_a_picture_are_noticed(look: LookAt) -> None:
    whole = picture("PNG")
    empty = whole[:33] + odd.chunk(b"IEND", b"")
    for data in (whole[:33], empty, whole[: 33 + 8]):
        assert (await look(data)).error is not None


@pytest.mark.parametrize(("codec", "name"), [("libopus", "a.ogg"), ("flac", "a.flac"), ("pcm_s16le", "a.wav"),
                                             ("libmp3lame", "a.mp3"), ("aac", "a.m4a")])  # fmt: skip
async def test_a_sound_that_is_cut_off_is_noticed(look: LookAt, tmp_path: Path, codec: str, name: str) -> None:
    whole = audio(tmp_path / name, codec=codec, seconds=10).read_bytes()
    assert (await look(whole)).error is None
    assert (await look(whole + b"TAG" + bytes(125))).error is None
    assert (await look(whole[: len(whole) * 6 // 10])).error is not None


async def test_a_sticker_is_unpacked_to_its_end(look: LookAt) -> None:
    data = odd.lottie(nm="x" * 300)
    facts, error = await look(data)
    assert error is None
    assert (facts.mime, facts.width, facts.height, facts.duration) == ("application/x-tgsticker", 512, 512, 1)
    assert choose_kind(facts)[0] is Kind.STICKER
    assert (await look(data[:-9])).error is not None
    for changed in ({"w": 100}, {"op": 600}):
        assert choose_kind((await look(odd.lottie(**changed))).facts)[0] is Kind.DOCUMENT


@pytest.mark.parametrize("name", ["WEBP", "PNG", "GIF"])
async def test_an_animated_picture_is_no_photo_and_one_frame_is_no_animation(facts_of: FactsOf, name: str) -> None:
    facts = await facts_of(odd.moving(name))
    kind, why = choose_kind(facts)
    assert kind is (Kind.ANIMATION if name == "GIF" else Kind.DOCUMENT)
    if name != "GIF":
        assert why is not None
        assert "does not move" in why
        with pytest.raises(MediaRuleViolation, match="does not move"):
            check(facts, Kind.PHOTO, local_server=False)
    assert choose_kind(await facts_of(odd.moving(name, ("red",))))[0] is Kind.PHOTO


@pytest.mark.parametrize("name", ["WEBP", "PNG"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
async def test_exif_turns_other_pictures_than_jpegs(facts_of: FactsOf, name: str, orientation: int) -> None:
    facts = await facts_of(odd.saved(odd.noise(), name, exif=odd.exif(orientation)))
    assert (facts.width, facts.height) == ((48, 64) if orientation >= 5 else (64, 48))


@pytest.mark.parametrize("header", [12, 40, 52, 56, 64, 108, 124])
async def test_a_bmp_of_every_age_is_one(facts_of: FactsOf, header: int) -> None:
    facts = await facts_of(odd.bmp(5, 3, header=header))
    assert (facts.mime, facts.width, facts.height) == ("image/bmp", 5, 3)


async def test_a_gif_without_colours_is_a_photo(facts_of: FactsOf) -> None:
    data = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\0;"
    facts = await facts_of(data)
    assert (facts.width, facts.height, choose_kind(facts)[0]) == (1, 1, Kind.PHOTO)


@pytest.mark.parametrize("junk", [bytes(1024), bytes(20_000), b"\xff rubbish \xff\xfb" * 90])
async def test_an_mp3_behind_junk_is_one(facts_of: FactsOf, tmp_path: Path, junk: bytes) -> None:
    data = audio(tmp_path / "a.mp3", codec="libmp3lame", seconds=2).read_bytes()
    facts = await facts_of(junk + data[data.index(b"\xff\xfb") :])
    assert (facts.mime, choose_kind(facts)[0]) == ("audio/mpeg", Kind.AUDIO)
    assert facts.duration == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"FORM\0\0\1\0AIFF", "audio/aiff"), (b"wvpk", "audio/x-wavpack"), (b"MAC \x96\x0f", "audio/x-ape"),
        (b"II+\0\x08\0\0\0", "image/tiff"), (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"), (b"\xff\x0a", "image/jxl"),
        (b"8BPS\0\1", "image/vnd.adobe.photoshop"), (b"RF64\xff\xff\xff\xffWAVE", "audio/wav"),
        (b"\0\0\1\xb3", "video/mpeg"), (b"<?xml version='1.0'?>\n<svg xmlns='a'/>", "image/svg+xml"),
        (b"<svg/>", "image/svg+xml"), (b"<?xml version='1.0'?><x/>", "text/plain"), (b"The free text\n", "text/plain"),
        ((bytes(4) + b"\x47" + bytes(187)) * 3, "video/mp2t"),
    ],
)  # fmt: skip
async def test_more_formats_are_known_by_their_first_bytes(look: LookAt, data: bytes, mime: str) -> None:
    padding = b"" if mime == "text/plain" or b"svg" in data else bytes(64)
    assert (await look(data + padding)).facts.mime == mime


async def test_a_frame_of_mp3s_of_several_rates_is_counted_and_not_guessed(facts_of: FactsOf) -> None:
    data = odd.frame(1) * 200 + odd.frame(14) * 400
    facts = await facts_of(data)
    assert facts.duration == pytest.approx(600 * 1152 / 44_100, abs=0.1)


async def test_two_joined_mp3s_last_as_long_as_both(facts_of: FactsOf, tmp_path: Path) -> None:
    one = audio(tmp_path / "one.mp3", codec="libmp3lame", seconds=6).read_bytes()
    assert (await facts_of(one + one)).duration == pytest.approx(12, abs=0.3)


@pytest.mark.parametrize(
    ("title", "performer", "seen"),
    [
        ("Полёт", "Оркестр", ("Полёт", "Оркестр")),
        ("Песня о Родине", "Ансамбль", ("Песня о Родине", "Ансамбль")),
        ("ЛЮБОВЬ", "Группа КИНО", ("ЛЮБОВЬ", "Группа КИНО")),
    ],
)
async def test_tags_in_windows_1251_are_readable(
    facts_of: FactsOf, title: str, performer: str, seen: tuple[str, str]
) -> None:
    tag = odd.id3((b"TIT2", b"\0" + title.encode("cp1251")), (b"TPE1", b"\0" + performer.encode("cp1251")), version=3)
    facts = await facts_of(tag + odd.frame() * 50)
    assert (facts.title, facts.performer) == seen


@pytest.mark.parametrize(
    ("artist", "seen"),
    [
        (b"\3One\0Two\0", "One, Two"),
        (b"\0One", "One"),
        (b"\1" + "Ночь".encode("utf-16"), "Ночь"),
        (b"\1" + "Some One".encode("utf-16-le"), "Some One"),
        (b"\1" + "Полёт к звёздам".encode("utf-16-le"), "Полёт к звёздам"),
        (b"\2" + "Ночь и день".encode("utf-16-be"), "Ночь и день"),
        (b"\1" + "One".encode("utf-16") + b"\0\0" + "Two".encode("utf-16"), "One, Two"),
        (b"\3", None),
        (b"", None),
    ],
)
@pytest.mark.parametrize("version", [3, 4])
async def test_performers_are_read_whatever_their_encoding_and_number(
    facts_of: FactsOf, artist: bytes, seen: str | None, version: int
) -> None:
    tag = odd.id3((b"TPE1", artist), version=version)
    assert (await facts_of(tag + odd.frame() * 50)).performer == seen


@given(st.binary(max_size=200), st.integers(0, 5))
def test_no_tag_breaks_its_reader(body: bytes, version: int) -> None:
    head = b"ID3" + bytes((version, 0, 0, 0, 0, len(body) >> 7 & 0x7F, len(body) & 0x7F))
    read_tags(io.BytesIO(head + body))
    read_tags(io.BytesIO(head + b"TPE1" + body))


@pytest.mark.parametrize(
    "text", ["Café", "Où es-tu", "Mañana", "Björk", "ÀÉÈ", "Ünïcödé", "Sigur Rós", "Beyoncé", "naïveté"]
)
async def test_tags_in_latin_1_stay(facts_of: FactsOf, text: str) -> None:
    tag = odd.id3((b"TIT2", b"\0" + text.encode("latin-1")), version=3)
    assert (await facts_of(tag + odd.frame() * 50)).title == text


@pytest.mark.parametrize(
    "data",
    [
        jpeg()[:2] + odd.app1(b"Exif\0\0II*\0\x08\0") + jpeg()[2:],
        odd.png(32, 32, depth=2, colour=3, raw=bytes(9 * 32)),
        odd.ftyp(b"avif", b"avif", b"mif1") + odd.box(b"meta", bytes(4) + odd.box(b"hdlr", bytes(8) + b"pict")),
    ],
    ids=["exif", "palette", "avif"],
)
async def test_what_makes_a_decoder_raise_costs_no_process(probe: Probe, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd"
    path.write_bytes(data)
    facts = await probe.facts(path, kind=Kind.DOCUMENT)
    try:
        said = "" if await probe.thumbnail(path, facts) else "no thumbnail"
    except UnreadableMedia as error:
        said = error.message
    assert not said or "the decoder gave up" in said


async def test_a_grey_picture_of_16_bits_is_drawn_in_grey(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    path.write_bytes(odd.png(32, 32, depth=16, colour=0, raw=(b"\0" + b"\x40\0" * 32) * 32))
    thumbnail = await probe.thumbnail(path, await probe.facts(path))
    assert thumbnail is not None
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert ImageStat.Stat(image.convert("L")).mean[0] == pytest.approx(0x40, abs=2)


@pytest.mark.parametrize("name", ["a.mov", "a.mkv"])
async def test_a_film_that_is_no_video_for_telegram_says_why_it_is_a_document(
    facts_of: FactsOf, tmp_path: Path, name: str
) -> None:
    facts = await facts_of(video(tmp_path / name, sound="aac").read_bytes())
    kind, why = choose_kind(facts)
    assert kind is Kind.DOCUMENT
    assert why is not None
    assert facts.mime in why


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fake.jpg", "not a picture"),
        ("film.MP4", "not a video"),
        ("song.mp3", "not sound"),
        ("notes.txt", None),
        (None, None),
    ],
)
def test_a_name_that_promises_more_than_the_bytes_is_told(name: str | None, why: str | None) -> None:
    kind, said = choose_kind(MediaMetadata(bytes=9, mime="text/plain", ext="txt"), name=name)
    assert kind is Kind.DOCUMENT
    assert (said or "").partition(":")[0] == (why or "")
