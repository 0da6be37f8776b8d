"""Decoding half of the probe: FFmpeg on untrusted bytes. Imported by worker processes only.

The demuxer is always the one that the first bytes announce, never FFmpeg's guess: a disguised playlist must not make it
open other files or URLs. The file is read by the descriptor of the job.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, cast

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from telewarm.models import MediaMetadata, printable_name
from telewarm.probe import gifs, mp3, stills
from telewarm.probe.id3 import read_tags
from telewarm.probe.ipc import Doubt, Job
from telewarm.probe.tags import readable
from telewarm.probe.turning import sides_of, turn_of

MAX_PIXELS: Final = 50_000_000  # of a picture that is decoded
MAX_PACKETS: Final = 256  # read to find a frame
# PyAV 19 keeps bytes of a tag that are not UTF-8 as surrogates; earlier versions do so on request.
KEEP_BYTES: Final[dict[str, Any]] = (
    {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "surrogateescape"}
)
END_SEARCH_SECONDS: Final = 5.0  # before the end, where the last packets are searched
MAX_SEEK_SECONDS: Final = 100 * 3600.0  # beyond any file that Telegram accepts
MAX_MISSING_SECONDS: Final = 0.5  # that a sound may be shorter than announced
MAX_TAG_CHARACTERS: Final = 256  # of a title or performer
SOUND_ONLY: Final = {
    "video/mp4": ("audio/mp4", "m4a"),
    "video/webm": ("audio/webm", "weba"),
    "video/x-matroska": ("audio/x-matroska", "mka"),
    "video/x-ms-asf": ("audio/x-ms-wma", "wma"),
}
WITH_PICTURE: Final = {"audio/ogg": ("video/ogg", "ogv"), "audio/mp4": ("video/mp4", "mp4")}
# Every packet has a time, so a missing end is detectable.
TIMED_TYPES: Final = frozenset({"audio/flac", "audio/x-tta", "audio/x-wavpack", "video/x-flv"})
TRUNCATED_PROBLEM: Final = "it is cut off, its last {:.0f} seconds are missing"


class DecodeLimitExceeded(Exception):
    """The picture exceeds the pixel limit."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width} × {height} pixels are more than the {MAX_PIXELS:,} that are decoded")


class NoMediaStream(Exception):
    """A container without the streams or frames that it announces."""


def open_container(job: Job) -> InputContainer:
    """Open the file as a container, a context manager. Raises av.FFmpegError."""
    options = {"protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
    container = cast(InputContainer, av.open(job.file(), format=job.demuxer, options=options, **KEEP_BYTES))
    for stream in container.streams:
        if (context := _context(stream)) is not None:
            context.thread_count = 1  # more would need memory for unused frames, and cannot be started
    return container


def complete_metadata(job: Job) -> MediaMetadata:
    """Return the complete metadata. Decodes one frame of a film, as a proof and for the rotation."""
    if job.demuxer is None:
        return _still(job)
    if job.facts.mime == "image/gif":
        return _gif(job)
    with open_container(job) as container:
        video = video_stream(container)
        sound = next(iter(container.streams.audio), None)
        if video is None and sound is None:
            raise NoMediaStream("there is neither picture nor sound in it")
        facts = _named(job, container, sound, codec="encrypted" if "audio" in job.encrypted else None)
        if video is not None:
            facts = _pictured(facts, job, container, video)
        else:
            mime, ext = SOUND_ONLY.get(facts.mime, (facts.mime, facts.ext))
            facts = replace(facts, mime=mime, ext=ext)
            _require_packet(container, cast(Stream, sound))
        return replace(facts, duration=_duration(job, container, facts))


def _still(job: Job) -> MediaMetadata:
    """Check that a picture which seems incomplete can be decoded."""
    problem = stills.problem_of(job.file(), job.facts.mime, MAX_PIXELS)
    if problem is not None:
        raise NoMediaStream(problem)
    return job.facts


def _gif(job: Job) -> MediaMetadata:
    found = gifs.read(job.descriptor)
    if isinstance(found, str):
        raise NoMediaStream(found)
    if found.width * found.height > MAX_PIXELS:
        raise DecodeLimitExceeded(found.width, found.height)
    facts = replace(job.facts, width=found.width, height=found.height)
    if found.frames > 1:
        facts = replace(facts, duration=found.seconds or None, video_codec="gif")
    problem = stills.problem_of(job.file(), job.facts.mime, MAX_PIXELS)
    if problem is None:
        return facts
    with open_container(job) as container:  # FFmpeg may accept what Pillow refuses
        next(frames(container, container.streams.video[0]))
    return facts


def _named(job: Job, container: InputContainer, sound: Stream | None, *, codec: str | None) -> MediaMetadata:
    tags: list[Mapping[str, str]] = [container.metadata, sound.metadata if sound else {}]
    if job.facts.mime.startswith("audio/"):
        tags.insert(0, read_tags(job.file()))
    heard = None if sound is None else codec or codec_of(sound)
    return replace(job.facts, audio_codec=heard, title=_tag(tags, "title"), performer=_tag(tags, "artist"))


def _pictured(facts: MediaMetadata, job: Job, container: InputContainer, video: VideoStream) -> MediaMetadata:
    mime, ext = WITH_PICTURE.get(facts.mime, (facts.mime, facts.ext))
    facts = replace(facts, mime=mime, ext=ext)
    if "video" in job.encrypted:
        return replace(facts, video_codec="encrypted")
    frame = next(frames(container, video))
    width, height = sides_of(frame, video, turn_of(frame))
    return replace(facts, width=width, height=height, video_codec=codec_of(video))


def _require_packet(container: InputContainer, sound: Stream) -> None:
    """Raise unless there is a packet: a DASH initialisation segment has a header and no sound."""
    for packet in itertools.islice(container.demux(sound), MAX_PACKETS):
        if packet.size:
            return
    raise NoMediaStream("there is no sound in it")


def _duration(job: Job, container: InputContainer, facts: MediaMetadata) -> float | None:
    """Return the duration in seconds. Raises NoMediaStream for a truncated sound or film."""
    said = container.duration / av.time_base if container.duration and container.duration > 0 else None
    start = (container.start_time or 0) / av.time_base
    if job.facts.mime == "audio/mpeg":
        return _of_mp3(job, said)
    if job.doubt is Doubt.CUT_OFF:
        _require_end(container, said)
    if job.doubt is Doubt.LATE_CLOCK and (last := _last_time(container, said)) is not None:
        return max(0.0, last - start) or said
    if facts.mime in {"audio/ogg", "video/ogg"}:
        _demand_last_page(job)
    if said is not None and job.facts.mime not in TIMED_TYPES:
        return said
    last = _last_time(container, said)
    if last is None:
        return said
    if said is not None and last - start < said - max(MAX_MISSING_SECONDS, said / 100):
        raise NoMediaStream(TRUNCATED_PROBLEM.format(said - last + start))
    return said if said is not None else max(0.0, last - start) or None


def _of_mp3(job: Job, said: float | None) -> float | None:
    found = mp3.read(job.descriptor)
    if found.missing_bytes:
        raise NoMediaStream(f"it is cut off, its last {found.missing_bytes:,} bytes are missing")
    return said if found.seconds is None else found.seconds


def _last_time(container: InputContainer, said: float | None) -> float | None:
    """Return the end of the last packet in seconds, by a seek to the end or by reading all packets."""
    last = None
    with suppress(av.FFmpegError):
        container.seek(int(((said - END_SEARCH_SECONDS) if said else MAX_SEEK_SECONDS) * av.time_base))
        last = _end_of(container)
    if last is None or (said is None and last < END_SEARCH_SECONDS):
        with suppress(av.FFmpegError):
            container.seek(0)
            last = _end_of(container)
    return last


def _end_of(container: InputContainer) -> float | None:
    last: float | None = None
    for packet in container.demux():
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            last = end if last is None else max(last, end)
    return last


def _require_end(container: InputContainer, said: float | None) -> None:
    """Raise NoMediaStream unless every frame is there, though the boxes announce slightly more bytes."""
    try:
        if said:
            container.seek(int(max(0.0, said - END_SEARCH_SECONDS) * av.time_base))
        whole = not any(packet.is_corrupt for packet in container.demux())
    except av.FFmpegError:
        whole = False
    if not whole:
        raise NoMediaStream("it is cut off, its last frames are missing")


def _demand_last_page(job: Job) -> None:
    if lost := mp3.missing_ogg_bytes(job.file()):
        raise NoMediaStream(f"it is cut off, its last {lost:,} bytes are missing")


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the first video stream that is not a cover."""
    return next((stream for stream in container.streams.video if not _is_cover(stream)), None)


def cover_stream(container: InputContainer) -> VideoStream | None:
    """Return the cover of an audio file."""
    return next((stream for stream in container.streams.video if _is_cover(stream)), None)


def frames(container: InputContainer, video: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames from the container's position, of `MAX_PACKETS` packets at most. Raises NoMediaStream."""
    if _context(video) is None:
        raise NoMediaStream("its picture is in an unknown codec")
    context = video.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise DecodeLimitExceeded(context.width, context.height)
    found = False
    packets: Iterator[Packet[VideoStream]] = itertools.islice(container.demux(video), MAX_PACKETS)
    for packet in packets:
        for decoded in packet.decode():
            found = True
            yield decoded
    if not found:
        raise NoMediaStream("no frame of its picture can be decoded")


def codec_of(stream: Stream) -> str:
    """Return the codec's canonical name, whatever library decodes it."""
    context = _context(stream)
    return context.codec.canonical_name if context else "unknown"


def _context(stream: Stream) -> CodecContext | None:
    """Return the codec context. PyAV's types promise one; a codec unknown to FFmpeg has none."""
    return stream.codec_context


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _tag(tags: Sequence[Mapping[str, str]], key: str) -> str | None:
    """Return a tag: MP3 and MP4 keep tags at the container, Ogg at the stream; the key's case varies."""
    for metadata in tags:
        for name, value in metadata.items():
            text = printable_name(readable(value))
            if name.lower() == key and text:
                return text[:MAX_TAG_CHARACTERS]
    return None
