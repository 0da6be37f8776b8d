"""Kind of a file, decided by its bytes and not by the called method (facts 6)."""

from __future__ import annotations

from dataclasses import dataclass

from telewarm.sandbox.sniff import Facts

NAMES = {
    "photo": "Photo",
    "video": "Video",
    "document": "Document",
    "audio": "Audio",
    "voice": "VoiceNote",
    "animation": "Animation",
    "video_note": "VideoNote",
    "sticker": "Sticker",
    "thumbnail": "Thumbnail",
}
MUSIC = frozenset({"mp3", "flac"})  # and MP4 with nothing but sound
NOTE_SECONDS = 60
MIMES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "avi": "video/x-msvideo",
    "ogg": "audio/ogg",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "wav": "audio/x-wav",
    "pdf": "application/pdf",
    "zip": "application/zip",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileOrigin:
    """Form in which the file came. `detect`: content-type detection is on."""

    kind: str
    name: str = ""
    by_url: bool = False
    detect: bool = True
    size: int = 0


def decide(asked: FileOrigin, facts: Facts) -> str:
    """Return the kind that Telegram returns for a new file."""
    match asked.kind:
        case "photo":
            return "photo"
        case "document":
            return _document(facts) if asked.detect else "document"
        case "video":
            return _video(asked, facts)
        case "animation":
            return _animation(facts)
        case "audio":
            return _audio(facts)
        case "voice":
            return _voice(asked, facts)
        case "video_note":
            return _video_note(facts)
        case _:
            return "sticker" if is_sticker(asked, facts) else "document"


def _document(facts: Facts) -> str:
    if is_gif(facts) or is_silent(facts):
        return "animation"
    if is_film(facts):
        return "video"
    return "audio" if is_music(facts) else "document"


def _video(asked: FileOrigin, facts: Facts) -> str:
    if is_gif(facts) or (asked.by_url and is_silent(facts)):
        return "animation"
    return "video" if is_film(facts) else "document"


def _animation(facts: Facts) -> str:
    if is_gif(facts) or is_silent(facts):
        return "animation"
    return "video" if is_film(facts) else "document"


def _audio(facts: Facts) -> str:
    if facts.opus:
        return "voice"
    return "audio" if is_music(facts) or facts.format in {"ogg", "wav"} else "document"


def _voice(asked: FileOrigin, facts: Facts) -> str:
    if asked.by_url and asked.size > 1 << 20:
        return "document"  # long voice notes by URL are sent as files
    if facts.opus or is_music(facts):
        return "voice"
    return "audio" if facts.format in {"ogg", "wav"} else "document"


def _video_note(facts: Facts) -> str:
    if not is_film(facts):
        return "document"
    square = facts.width == facts.height
    return "video_note" if square and facts.duration < NOTE_SECONDS + 1 else "video"


def is_gif(facts: Facts) -> bool:
    """Return whether it is a GIF."""
    return facts.format == "gif"


def is_film(facts: Facts) -> bool:
    """Return whether it has a video track."""
    return facts.format == "mp4" and facts.video


def is_silent(facts: Facts) -> bool:
    """Return whether it is a video without sound."""
    return is_film(facts) and not facts.audio


def is_music(facts: Facts) -> bool:
    """Return whether it is music."""
    return facts.format in MUSIC or (facts.format == "mp4" and facts.audio and not facts.video)


def is_sticker(asked: FileOrigin, facts: Facts) -> bool:
    """Return whether it is a sticker."""
    return facts.format == "webp" or is_animated_sticker(asked, facts)


def is_animated_sticker(asked: FileOrigin, facts: Facts) -> bool:
    """Return whether it is an animated sticker."""
    return facts.format == "gzip" and asked.name.lower().endswith(".tgs")


def mime_of(kind: str, facts: Facts, given: str) -> str:
    """Return the MIME type by the bytes; else the client's, which Telegram believes for unknown formats."""
    if kind == "animation":
        return "video/mp4"
    if kind == "sticker" and facts.format == "gzip":
        return "application/x-tgsticker"
    if facts.format == "mp4" and is_music(facts):
        return "audio/mp4"
    return MIMES.get(facts.format, given)
