"""Telegram's rules for each kind, decided by metadata. Pure.

Sources: the Bot API's "Sending files" and the send methods, and TDLib's own constants (FileLoaderUtils.cpp). A megabyte
is 2^20 bytes, as in TDLib; the hosted server's 50 MB is not in any public source, so its exact byte is a guess.
"""

from __future__ import annotations

from typing import Final, assert_never

from telewarm.errors import MediaRuleViolation
from telewarm.models import Kind, MediaMetadata

MB: Final = 1 << 20
MAX_CLOUD_BYTES: Final = 50 * MB
MAX_LOCAL_BYTES: Final = 2000 * MB
MAX_PHOTO_BYTES: Final = 10 * MB
MAX_PHOTO_SIDES_SUM: Final = 10_000  # width + height, pixels
MAX_PHOTO_RATIO: Final = 20
MAX_NOTE_BYTES: Final = 12 * MB
MAX_NOTE_SIDE_PIXELS: Final = 640
MAX_NOTE_SECONDS: Final = 60  # whole seconds, as Telegram counts them
STICKER_SIDE_PIXELS: Final = 512
MAX_TGS_BYTES: Final = 64 << 10
MAX_TGS_SECONDS: Final = 3
MAX_LOOP_BYTES: Final = 10 * MB  # up to which Telegram's apps show a silent video as an animation
MAX_LOOP_SECONDS: Final = 60  # a longer one needs a seek bar, which animations do not have

PHOTO_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"})
STICKER_TYPES: Final = frozenset({"image/webp", "application/x-tgsticker"})
VIDEO_CODECS: Final = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg4"})  # played by Telegram's apps in an MP4
SOUND_CODECS: Final = frozenset({"aac", "mp3", "alac"})  # played by Telegram's apps in an M4A
AS_DOCUMENT: Final = "Send it as a document (--kind document)."
EXPECTED_KINDS: Final = {
    ext: what
    for what, exts in (
        ("a picture", "jpg jpeg jpe jfif png apng webp gif bmp heic heif avif tif tiff"),
        ("a video", "mp4 m4v mov mkv webm avi 3gp mpg mpeg wmv flv m2ts"),
        ("sound", "mp3 m4a ogg oga opus flac wav aac wma aif aiff"),
        ("a sticker", "tgs"),
    )
    for ext in exts.split()
}


def check(facts: MediaMetadata, kind: Kind, *, local_server: bool) -> None:
    """Raise MediaRuleViolation for the first rule that the file breaks as this kind.

    `local_server`: for uploads to a local Bot API server, which accepts 2000 MB instead of 50 MB.
    """
    _check_size(facts, local_server=local_server)
    match kind:
        case Kind.PHOTO:
            _check_photo(facts)
        case Kind.VIDEO:
            _check_video(facts)
        case Kind.ANIMATION:
            _check_animation(facts)
        case Kind.VIDEO_NOTE:
            _check_video_note(facts)
        case Kind.AUDIO:
            _check_audio(facts)
        case Kind.VOICE:
            _check_voice(facts)
        case Kind.STICKER:
            _check_sticker(facts)
        case Kind.DOCUMENT:
            pass
        case _:
            assert_never(kind)


def natural_kind(facts: MediaMetadata) -> Kind:
    """Return the natural kind of a file; document where Telegram would refuse any other.

    A short silent MP4 is an animation, as Telegram decides for one sent as a document.
    """
    return choose_kind(facts)[0]


def choose_kind(facts: MediaMetadata, *, name: str | None = None) -> tuple[Kind, str | None]:
    """Return `natural_kind`, and why it is a document where bytes or `name` suggest another kind; else None."""
    why = None
    for kind in _candidates(facts):
        try:
            check(facts, kind, local_server=True)
        except MediaRuleViolation as broken:
            why = f"{broken.rule}; this file has {broken.measured}"
        else:
            return kind, None
    return Kind.DOCUMENT, why or _broken_promise(facts, name)


def _broken_promise(facts: MediaMetadata, name: str | None) -> str | None:
    promised = EXPECTED_KINDS.get((name or "").rpartition(".")[2].lower())
    if promised is None or facts.mime.partition("/")[0] in {"image", "video", "audio"}:
        return None
    return f"not {promised}: its bytes are {facts.mime}"


def is_measured(facts: MediaMetadata) -> bool:
    """Return whether the metadata is complete: a picture, film or sound without measures was not decoded."""
    if facts.mime.partition("/")[0] not in {"image", "video", "audio"} and facts.mime != "application/x-tgsticker":
        return True
    return facts.width is not None or facts.duration is not None


def size_rule(largest: int) -> tuple[str, str]:
    """Return the rule that a file of more than `largest` bytes breaks, and the remedy."""
    if largest == MAX_CLOUD_BYTES:
        cure = "Make it smaller, or use a Bot API server of your own, which takes 2000 MB (TELEGRAM_API_ROOT)."
        return "Telegram takes at most 50 MB from bots", cure
    if largest == MAX_LOCAL_BYTES:
        return "A Bot API server of your own takes at most 2000 MB", "Make it smaller or split it."
    return (
        f"A file has at most {largest} bytes here (TELEWARM_MAX_UPLOAD_BYTES)",
        "Send a smaller file, or raise TELEWARM_MAX_UPLOAD_BYTES.",
    )


def check_size(size: int, *, largest: int) -> None:
    """Raise MediaRuleViolation for a file of more than `largest` bytes, before it is read."""
    rule, cure = size_rule(largest)
    _demand(size <= largest, rule=rule, measured=_size(size), cure=cure)


def wants_thumbnail(kind: Kind, facts: MediaMetadata) -> bool:
    """Return whether an upload of this kind carries a thumbnail; Telegram makes those of other kinds.

    True for every audio: only its bytes tell whether it has a cover, and `Probe.thumbnail` returns None without one.
    """
    match kind:
        case Kind.VIDEO | Kind.ANIMATION | Kind.VIDEO_NOTE:
            return facts.video_codec is not None
        case Kind.AUDIO:
            return facts.audio_codec is not None
        case Kind.DOCUMENT:
            return facts.video_codec is not None and facts.mime.startswith("video/")
        case Kind.PHOTO | Kind.VOICE | Kind.STICKER:
            return False
        case _:
            assert_never(kind)


def _candidates(facts: MediaMetadata) -> tuple[Kind, ...]:
    if facts.mime == "application/x-tgsticker":
        return (Kind.STICKER,)
    if facts.mime == "audio/ogg":
        return (Kind.VOICE,)
    if facts.mime.startswith("audio/"):
        return (Kind.AUDIO,)
    if facts.mime.startswith("video/"):
        loops = (
            facts.bytes <= MAX_LOOP_BYTES and (facts.duration or 0) <= MAX_LOOP_SECONDS and facts.audio_codec is None
        )
        return (Kind.ANIMATION, Kind.VIDEO) if loops else (Kind.VIDEO,)
    if facts.mime == "image/gif" and facts.video_codec is not None:
        return (Kind.ANIMATION,)
    return (Kind.PHOTO,) if facts.mime.startswith("image/") else ()


def _demand(holds: bool, *, rule: str, measured: str, cure: str = AS_DOCUMENT) -> None:  # noqa: FBT001 reads as a sentence
    if not holds:
        raise MediaRuleViolation(rule=rule, measured=measured, cure=cure)


def _check_size(facts: MediaMetadata, *, local_server: bool) -> None:
    _demand(facts.bytes > 0, rule="Telegram refuses empty files", measured="0 bytes", cure="Send a file with content.")
    check_size(facts.bytes, largest=MAX_LOCAL_BYTES if local_server else MAX_CLOUD_BYTES)


def _check_photo(facts: MediaMetadata) -> None:
    rule = "A photo is a JPEG, PNG, WEBP, GIF or BMP picture"
    _demand(facts.mime in PHOTO_TYPES, rule=rule, measured=f"the type {facts.mime}")
    _demand(facts.bytes <= MAX_PHOTO_BYTES, rule="A photo has at most 10 MB", measured=_size(facts.bytes))
    if not facts.width or not facts.height:
        raise MediaRuleViolation(rule=rule, measured="no readable picture", cure=AS_DOCUMENT)
    _demand(
        facts.video_codec is None or facts.mime == "image/gif",
        rule="A photo does not move",
        measured=f"several frames of {facts.ext.upper()}",
    )
    _demand(
        facts.width + facts.height <= MAX_PHOTO_SIDES_SUM,
        rule="A photo's width and height are at most 10,000 pixels in sum",
        measured=f"{facts.width} × {facts.height}, {facts.width + facts.height:,} in sum",
        cure="Scale it down, or send it as a document.",
    )
    shorter, longer = sorted((facts.width, facts.height))
    _demand(
        longer <= MAX_PHOTO_RATIO * shorter,
        rule="A photo's longer side is at most 20 times its shorter one",
        measured=f"{facts.width} × {facts.height}, a ratio of {longer / shorter:.2f}",
        cure="Crop it, or send it as a document.",
    )


def _check_video(facts: MediaMetadata) -> None:
    rule = "A video is an MP4 file with a picture"
    _demand(facts.mime == "video/mp4", rule=rule, measured=f"the type {facts.mime}")
    _demand(facts.video_codec is not None, rule=rule, measured="no readable picture")
    _demand(
        facts.video_codec in VIDEO_CODECS,
        rule="A video's picture is H.264, HEVC, AV1, VP9, VP8 or MPEG-4",
        measured=f"{facts.video_codec} picture",
    )


def _check_animation(facts: MediaMetadata) -> None:
    if facts.mime == "image/gif":
        return
    rule = "An animation is a GIF, or an H.264 MP4 without sound"
    _demand(facts.mime == "video/mp4", rule=rule, measured=f"the type {facts.mime}")
    _demand(facts.video_codec == "h264", rule=rule, measured=f"{facts.video_codec or 'no readable'} picture")
    _demand(
        facts.audio_codec is None,
        rule=rule,
        measured=f"{facts.audio_codec} sound",
        cure="Send it as a video, or remove the sound.",
    )


def _check_video_note(facts: MediaMetadata) -> None:
    as_video = "Send it as a video."
    rule = "A video note is a square MP4"
    _demand(facts.mime == "video/mp4" and facts.video_codec is not None, rule=rule, measured=f"the type {facts.mime}")
    _demand(facts.video_codec in VIDEO_CODECS, rule=rule, measured=f"{facts.video_codec} picture")
    sides = f"{facts.width} × {facts.height}"
    _demand(facts.width == facts.height, rule=rule, measured=sides, cure=as_video)
    rule = "A video note's side is at most 640 pixels"
    _demand((facts.width or 0) <= MAX_NOTE_SIDE_PIXELS, rule=rule, measured=sides, cure=as_video)
    seconds = facts.duration or 0
    rule = "A video note lasts at most 60 seconds"
    _demand(int(seconds) <= MAX_NOTE_SECONDS, rule=rule, measured=f"{seconds:.1f} seconds", cure=as_video)
    _demand(
        facts.bytes <= MAX_NOTE_BYTES, rule="A video note has at most 12 MB", measured=_size(facts.bytes), cure=as_video
    )


def _check_audio(facts: MediaMetadata) -> None:
    rule = "Audio is an MP3 or M4A file"
    _demand(facts.mime in {"audio/mpeg", "audio/mp4"}, rule=rule, measured=f"the type {facts.mime}")
    _check_m4a(facts)


def _check_voice(facts: MediaMetadata) -> None:
    holds = facts.mime in {"audio/mpeg", "audio/mp4"} or (facts.mime == "audio/ogg" and facts.audio_codec == "opus")
    codec = f" with {facts.audio_codec} sound" if facts.audio_codec else ""
    rule = "A voice note is OGG with Opus, MP3 or M4A"
    _demand(holds, rule=rule, measured=f"the type {facts.mime}{codec}")
    _check_m4a(facts)


def _check_m4a(facts: MediaMetadata) -> None:
    _demand(
        facts.mime != "audio/mp4" or facts.audio_codec in SOUND_CODECS,
        rule="The sound of an M4A is AAC, MP3 or ALAC",
        measured=f"{facts.audio_codec or 'no readable'} sound",
    )


def _check_sticker(facts: MediaMetadata) -> None:
    rule = "A sticker is a WEBP or TGS file"
    _demand(facts.mime in STICKER_TYPES, rule=rule, measured=f"the type {facts.mime}")
    if facts.mime == "application/x-tgsticker":
        _check_animated_sticker(facts)
        return
    _demand(facts.video_codec is None, rule="A WEBP sticker does not move", measured="several frames")
    if facts.mime == "image/webp":
        _demand(
            max(facts.width or 0, facts.height or 0) == STICKER_SIDE_PIXELS,
            rule="A sticker's longer side is 512 pixels",
            measured=f"{facts.width} × {facts.height}",
            cure="Scale it, or send it as a photo or a document.",
        )


def _check_animated_sticker(facts: MediaMetadata) -> None:
    _demand(
        facts.width == facts.height == STICKER_SIDE_PIXELS,
        rule="An animated sticker has 512 × 512 pixels",
        measured=f"{facts.width} × {facts.height}",
    )
    seconds = facts.duration or 0
    rule = "An animated sticker lasts at most 3 seconds"
    _demand(seconds <= MAX_TGS_SECONDS, rule=rule, measured=f"{seconds:.1f} seconds")
    _demand(
        facts.bytes <= MAX_TGS_BYTES, rule="An animated sticker has at most 64 KiB", measured=f"{facts.bytes:,} bytes"
    )


def _size(count: int) -> str:
    return f"{count / MB:.2f} MB ({count:,} bytes)"
