"""The dear half of the probe: FFmpeg on untrusted bytes. Only a worker process imports this.

The demuxer is always the one that the first bytes announce, never a guess of FFmpeg's: a playlist in disguise must not
make it open other files or addresses.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, cast

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from telewarm.model import Facts
from telewarm.probe.wire import Job

PIXELS: Final = 50_000_000  # the largest picture that is decoded
PACKETS: Final = 256  # read at most so many to find a frame
# PyAV 19 keeps bytes of a tag that are no UTF-8 as surrogates; the versions before it do so when they are told to.
KEEP_BYTES: Final[dict[str, Any]] = (
    {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "surrogateescape"}
)
TAG_LENGTH: Final = 256  # characters kept of a title or performer
SOUND_ONLY: Final = {
    "video/mp4": ("audio/mp4", "m4a"),
    "video/webm": ("audio/webm", "weba"),
    "video/x-matroska": ("audio/x-matroska", "mka"),
    "video/x-ms-asf": ("audio/x-ms-wma", "wma"),
}


class TooLarge(Exception):
    """A picture with more pixels than are decoded."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width} × {height} pixels are more than the {PIXELS:,} that are decoded")


class NothingThere(Exception):
    """A container without the streams or frames that it promises."""


def opened(job: Job) -> InputContainer:
    """The file as a container; closes as a context manager. Raises av.FFmpegError."""
    options = {"protocol_whitelist": "file", "max_pixels": str(PIXELS)}
    return cast(InputContainer, av.open(job.path, format=job.demuxer, options=options, **KEEP_BYTES))


def complete(job: Job) -> Facts:
    """The facts of a container. Decodes one frame, which proves that there is one and tells its rotation."""
    with opened(job) as container:
        video = moving(container)
        sound = next(iter(container.streams.audio), None)
        duration = container.duration / av.time_base if container.duration and container.duration > 0 else None
        title, performer = _tag(container, sound, "title"), _tag(container, sound, "artist")
        facts = replace(
            job.facts, duration=duration, audio_codec=codec(sound) if sound else None, title=title, performer=performer
        )
        if video is not None:
            width, height = _sides(next(frames(container, video)))
            return replace(facts, width=width, height=height, video_codec=codec(video))
        if sound is None:
            raise NothingThere("there is neither picture nor sound in it")
        mime, ext = SOUND_ONLY.get(facts.mime, (facts.mime, facts.ext))
        return replace(facts, mime=mime, ext=ext)


def moving(container: InputContainer) -> VideoStream | None:
    """The first video stream that is no cover."""
    return next((stream for stream in container.streams.video if not _is_cover(stream)), None)


def cover(container: InputContainer) -> VideoStream | None:
    """The picture that an audio file carries."""
    return next((stream for stream in container.streams.video if _is_cover(stream)), None)


def frames(container: InputContainer, video: VideoStream) -> Iterator[VideoFrame]:
    """The frames from where the container stands, of at most PACKETS packets. Raises NothingThere if there is none."""
    if _context(video) is None:
        raise NothingThere("its picture is in an unknown codec")
    context = video.codec_context
    if context.width * context.height > PIXELS:
        raise TooLarge(context.width, context.height)
    context.thread_count = 1  # each thread would cost memory for frames that nobody asks for
    found = False
    for packet in itertools.islice(container.demux(video), PACKETS):
        for decoded in packet.decode():
            found = True
            yield decoded
    if not found:
        raise NothingThere("no frame of its picture can be decoded")


def codec(stream: Stream) -> str:
    """The codec's own name, whatever library decodes it."""
    context = _context(stream)
    return context.codec.canonical_name if context else "unknown"


def _context(stream: Stream) -> CodecContext | None:
    """PyAV's types say that there always is one; for a codec unknown to FFmpeg there is not."""
    return stream.codec_context


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _sides(frame: VideoFrame) -> tuple[int, int]:
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


def _tag(container: InputContainer, sound: Stream | None, key: str) -> str | None:
    """MP3 and MP4 keep tags beside the streams, Ogg within them; the case of the key varies."""
    for metadata in (container.metadata, sound.metadata if sound else {}):
        for name, value in metadata.items():
            known = value.encode(errors="surrogateescape").decode(errors="replace")
            text = "".join(char for char in known if char.isprintable()).strip()
            if name.lower() == key and text:
                return text[:TAG_LENGTH]
    return None
