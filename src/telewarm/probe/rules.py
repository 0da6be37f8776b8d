"""Telegram's rules for each kind, as pure decisions over facts.

Sources: the Bot API's "Sending files" and the send methods, and TDLib's own constants (FileLoaderUtils.cpp). A megabyte
is 2^20 bytes, as in TDLib; the hosted server's 50 MB is not in any public source, so its exact byte is a guess.
"""

from __future__ import annotations

from typing import Final, assert_never

from telewarm.errors import RuleBroken
from telewarm.model import Facts, Kind

MB: Final = 1 << 20
CLOUD_BYTES: Final = 50 * MB
LOCAL_BYTES: Final = 2000 * MB
PHOTO_BYTES: Final = 10 * MB
PHOTO_SIDES: Final = 10_000  # width + height, pixels
PHOTO_RATIO: Final = 20
NOTE_BYTES: Final = 12 * MB
NOTE_SIDE: Final = 640
NOTE_SECONDS: Final = 60  # whole seconds, as Telegram counts them
STICKER_SIDE: Final = 512

PHOTO_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"})
STICKER_TYPES: Final = frozenset({"image/webp", "application/x-tgsticker", "video/webm"})
AS_DOCUMENT: Final = "Send it as a document."


def check(facts: Facts, kind: Kind, *, local_server: bool) -> None:
    """Raise RuleBroken for the first rule that this file breaks as this kind.

    `local_server`: uploads go to a Bot API server of one's own, which takes 2000 MB instead of 50 MB.
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


def natural_kind(facts: Facts) -> Kind:
    """What a person would send this file as; a document where Telegram would refuse anything better.

    A silent MP4 is an animation, as Telegram itself decides for one sent as a document.
    """
    for kind in _candidates(facts):
        try:
            check(facts, kind, local_server=True)
        except RuleBroken:
            continue
        return kind
    return Kind.DOCUMENT


def wants_thumbnail(kind: Kind, facts: Facts) -> bool:
    """Whether an upload of this kind carries a thumbnail of ours; Telegram makes those of the other kinds itself.

    True for every audio: only its bytes say whether it holds a cover, and `Probe.thumbnail` answers None if not.
    """
    match kind:
        case Kind.VIDEO | Kind.ANIMATION | Kind.VIDEO_NOTE:
            return facts.video_codec is not None
        case Kind.AUDIO:
            return facts.audio_codec is not None
        case Kind.PHOTO | Kind.DOCUMENT | Kind.VOICE | Kind.STICKER:
            return False
        case _:
            assert_never(kind)


def _candidates(facts: Facts) -> tuple[Kind, ...]:
    if facts.mime == "application/x-tgsticker":
        return (Kind.STICKER,)
    if facts.mime == "audio/ogg":
        return (Kind.VOICE,)
    if facts.mime.startswith("audio/"):
        return (Kind.AUDIO,)
    if facts.mime.startswith("video/"):
        return (Kind.ANIMATION, Kind.VIDEO)
    if facts.mime == "image/gif":
        return (Kind.ANIMATION,)
    return (Kind.PHOTO,)


def _demand(holds: bool, *, rule: str, measured: str, cure: str = AS_DOCUMENT) -> None:  # noqa: FBT001 reads as a sentence
    if not holds:
        raise RuleBroken(rule=rule, measured=measured, cure=cure)


def _check_size(facts: Facts, *, local_server: bool) -> None:
    _demand(facts.bytes > 0, rule="Telegram refuses empty files", measured="0 bytes", cure="Send a file with content.")
    if local_server:
        rule, cure = "A local Bot API server takes files of at most 2000 MB", "Make it smaller or split it."
    else:
        rule = "Telegram's hosted server takes uploads of at most 50 MB"
        cure = "Make it smaller, or set TELEGRAM_API_ROOT to a local Bot API server, which takes 2000 MB."
    limit = LOCAL_BYTES if local_server else CLOUD_BYTES
    _demand(facts.bytes <= limit, rule=rule, measured=_size(facts), cure=cure)


def _check_photo(facts: Facts) -> None:
    rule = "A photo is a JPEG, PNG, WEBP, GIF or BMP picture"
    _demand(facts.mime in PHOTO_TYPES, rule=rule, measured=f"the type {facts.mime}")
    _demand(facts.bytes <= PHOTO_BYTES, rule="A photo has at most 10 MB", measured=_size(facts))
    if not facts.width or not facts.height:
        raise RuleBroken(rule=rule, measured="no readable picture", cure=AS_DOCUMENT)
    _demand(
        facts.width + facts.height <= PHOTO_SIDES,
        rule="A photo's width and height are at most 10,000 pixels in sum",
        measured=f"{facts.width} × {facts.height}, {facts.width + facts.height:,} in sum",
        cure="Scale it down, or send it as a document.",
    )
    shorter, longer = sorted((facts.width, facts.height))
    _demand(
        longer <= PHOTO_RATIO * shorter,
        rule="A photo's longer side is at most 20 times its shorter one",
        measured=f"{facts.width} × {facts.height}, a ratio of {longer / shorter:.2f}",
        cure="Crop it, or send it as a document.",
    )


def _check_video(facts: Facts) -> None:
    rule = "A video is an MP4 file with a picture"
    _demand(facts.mime == "video/mp4", rule=rule, measured=f"the type {facts.mime}")
    _demand(facts.video_codec is not None, rule=rule, measured="no readable picture")


def _check_animation(facts: Facts) -> None:
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


def _check_video_note(facts: Facts) -> None:
    as_video = "Send it as a video."
    rule = "A video note is a square MP4"
    _demand(facts.mime == "video/mp4" and facts.video_codec is not None, rule=rule, measured=f"the type {facts.mime}")
    sides = f"{facts.width} × {facts.height}"
    _demand(facts.width == facts.height, rule=rule, measured=sides, cure=as_video)
    rule = "A video note's side is at most 640 pixels"
    _demand((facts.width or 0) <= NOTE_SIDE, rule=rule, measured=sides, cure=as_video)
    seconds = facts.duration or 0
    rule = "A video note lasts at most 60 seconds"
    _demand(int(seconds) <= NOTE_SECONDS, rule=rule, measured=f"{seconds:.1f} seconds", cure=as_video)
    _demand(facts.bytes <= NOTE_BYTES, rule="A video note has at most 12 MB", measured=_size(facts), cure=as_video)


def _check_audio(facts: Facts) -> None:
    rule = "Audio is an MP3 or M4A file"
    _demand(facts.mime in {"audio/mpeg", "audio/mp4"}, rule=rule, measured=f"the type {facts.mime}")


def _check_voice(facts: Facts) -> None:
    holds = facts.mime in {"audio/mpeg", "audio/mp4"} or (facts.mime == "audio/ogg" and facts.audio_codec == "opus")
    codec = f" with {facts.audio_codec} sound" if facts.audio_codec else ""
    rule = "A voice note is OGG with Opus, MP3 or M4A"
    _demand(holds, rule=rule, measured=f"the type {facts.mime}{codec}")


def _check_sticker(facts: Facts) -> None:
    rule = "A sticker is a WEBP, TGS or WEBM file"
    _demand(facts.mime in STICKER_TYPES, rule=rule, measured=f"the type {facts.mime}")
    if facts.mime == "image/webp":
        _demand(
            max(facts.width or 0, facts.height or 0) == STICKER_SIDE,
            rule="A sticker's longer side is 512 pixels",
            measured=f"{facts.width} × {facts.height}",
            cure="Scale it, or send it as a photo or a document.",
        )


def _size(facts: Facts) -> str:
    return f"{facts.bytes / MB:.2f} MB ({facts.bytes:,} bytes)"
