"""The dear half of the probe: FFmpeg on untrusted bytes. Only a worker process imports this.

The demuxer is always the one that the first bytes announce, never a guess of FFmpeg's: a playlist in disguise must not
make it open other files or addresses. What is read is the descriptor that came with the job.
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

PIXELS: Final = 50_000_000  # the largest picture that is decoded
PACKETS: Final = 256  # read at most so many to find a frame
# PyAV 19 keeps bytes of a tag that are no UTF-8 as surrogates; the versions before it do so when they are told to.
KEEP_BYTES: Final[dict[str, Any]] = (
    {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "surrogateescape"}
)
NEAR_END: Final = 5.0  # seconds before the end from which the last packets are looked for
LATEST: Final = 100 * 3600.0  # seconds: beyond any file that Telegram takes
LACKING: Final = 0.5  # seconds that a sound may be shorter than it promises
TAG_LENGTH: Final = 256  # characters kept of a title or performer
SOUND_ONLY: Final = {
    "video/mp4": ("audio/mp4", "m4a"),
    "video/webm": ("audio/webm", "weba"),
    "video/x-matroska": ("audio/x-matroska", "mka"),
    "video/x-ms-asf": ("audio/x-ms-wma", "wma"),
}
WITH_PICTURE: Final = {"audio/ogg": ("video/ogg", "ogv"), "audio/mp4": ("video/mp4", "mp4")}
# Each packet tells its time, so a missing end shows.
PACED: Final = frozenset({"audio/flac", "audio/x-tta", "audio/x-wavpack", "video/x-flv"})
SHORT: Final = "it is cut off, its last {:.0f} seconds are missing"


class DecodeLimitExceeded(Exception):
    """A picture with more pixels than are decoded."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width} × {height} pixels are more than the {PIXELS:,} that are decoded")


class NoMediaStream(Exception):
    """A container without the streams or frames that it promises."""


def opened(job: Job) -> InputContainer:
    """The file as a container; closes as a context manager. Raises av.FFmpegError."""
    options = {"protocol_whitelist": "none", "max_pixels": str(PIXELS)}
    container = cast(InputContainer, av.open(job.file(), format=job.demuxer, options=options, **KEEP_BYTES))
    for stream in container.streams:
        if (context := _context(stream)) is not None:
            context.thread_count = 1  # others would cost memory for frames that nobody asks for, and cannot be started
    return container


def complete(job: Job) -> MediaMetadata:
    """The facts of a file. Decodes one frame of a film, which proves that there is one and tells its rotation."""
    if job.demuxer is None:
        return _still(job)
    if job.facts.mime == "image/gif":
        return _gif(job)
    with opened(job) as container:
        video = moving(container)
        sound = next(iter(container.streams.audio), None)
        if video is None and sound is None:
            raise NoMediaStream("there is neither picture nor sound in it")
        facts = _named(job, container, sound, codec="encrypted" if "audio" in job.encrypted else None)
        if video is not None:
            facts = _pictured(facts, job, container, video)
        else:
            mime, ext = SOUND_ONLY.get(facts.mime, (facts.mime, facts.ext))
            facts = replace(facts, mime=mime, ext=ext)
            _demand_packet(container, cast(Stream, sound))
        return replace(facts, duration=_duration(job, container, facts))


def _still(job: Job) -> MediaMetadata:
    """A picture whose end seems to be missing: whether it can be decoded."""
    problem = stills.problem_of(job.file(), job.facts.mime, PIXELS)
    if problem is not None:
        raise NoMediaStream(problem)
    return job.facts


def _gif(job: Job) -> MediaMetadata:
    found = gifs.read(job.descriptor)
    if isinstance(found, str):
        raise NoMediaStream(found)
    if found.width * found.height > PIXELS:
        raise DecodeLimitExceeded(found.width, found.height)
    facts = replace(job.facts, width=found.width, height=found.height)
    if found.frames > 1:
        facts = replace(facts, duration=found.seconds or None, video_codec="gif")
    problem = stills.problem_of(job.file(), job.facts.mime, PIXELS)
    if problem is None:
        return facts
    with opened(job) as container:  # what one decoder refuses another may take
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


def _demand_packet(container: InputContainer, sound: Stream) -> None:
    """A DASH initialisation segment has a header and no sound."""
    for packet in itertools.islice(container.demux(sound), PACKETS):
        if packet.size:
            return
    raise NoMediaStream("there is no sound in it")


def _duration(job: Job, container: InputContainer, facts: MediaMetadata) -> float | None:
    """In seconds. Raises NoMediaStream for a sound or film whose end is not there."""
    said = container.duration / av.time_base if container.duration and container.duration > 0 else None
    start = (container.start_time or 0) / av.time_base
    if job.facts.mime == "audio/mpeg":
        return _of_mp3(job, said)
    if job.doubt is Doubt.CUT_OFF:
        _demand_end(container, said)
    if job.doubt is Doubt.LATE_CLOCK and (last := _last_time(container, said)) is not None:
        return max(0.0, last - start) or said
    if facts.mime in {"audio/ogg", "video/ogg"}:
        _demand_last_page(job)
    if said is not None and job.facts.mime not in PACED:
        return said
    last = _last_time(container, said)
    if last is None:
        return said
    if said is not None and last - start < said - max(LACKING, said / 100):
        raise NoMediaStream(SHORT.format(said - last + start))
    return said if said is not None else max(0.0, last - start) or None


def _of_mp3(job: Job, said: float | None) -> float | None:
    found = mp3.read(job.descriptor)
    if found.lost:
        raise NoMediaStream(f"it is cut off, its last {found.lost:,} bytes are missing")
    return said if found.seconds is None else found.seconds


def _last_time(container: InputContainer, said: float | None) -> float | None:
    """Seconds at which the last packet ends, by a seek to the end, or by going through all of it."""
    last = None
    with suppress(av.FFmpegError):
        container.seek(int(((said - NEAR_END) if said else LATEST) * av.time_base))
        last = _end_of(container)
    if last is None or (said is None and last < NEAR_END):
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


def _demand_end(container: InputContainer, said: float | None) -> None:
    """The boxes promise a little more than there is. Raises NoMediaStream unless every frame is there all the same."""
    try:
        if said:
            container.seek(int(max(0.0, said - NEAR_END) * av.time_base))
        whole = not any(packet.is_corrupt for packet in container.demux())
    except av.FFmpegError:
        whole = False
    if not whole:
        raise NoMediaStream("it is cut off, its last frames are missing")


def _demand_last_page(job: Job) -> None:
    if lost := mp3.lost_of_ogg(job.file()):
        raise NoMediaStream(f"it is cut off, its last {lost:,} bytes are missing")


def moving(container: InputContainer) -> VideoStream | None:
    """The first video stream that is no cover."""
    return next((stream for stream in container.streams.video if not _is_cover(stream)), None)


def cover(container: InputContainer) -> VideoStream | None:
    """The picture that an audio file carries."""
    return next((stream for stream in container.streams.video if _is_cover(stream)), None)


def frames(container: InputContainer, video: VideoStream) -> Iterator[VideoFrame]:
    """The frames from where the container stands, of at most PACKETS packets. Raises NoMediaStream if there is none."""
    if _context(video) is None:
        raise NoMediaStream("its picture is in an unknown codec")
    context = video.codec_context
    if context.width * context.height > PIXELS:
        raise DecodeLimitExceeded(context.width, context.height)
    found = False
    packets: Iterator[Packet[VideoStream]] = itertools.islice(container.demux(video), PACKETS)
    for packet in packets:
        for decoded in packet.decode():
            found = True
            yield decoded
    if not found:
        raise NoMediaStream("no frame of its picture can be decoded")


def codec_of(stream: Stream) -> str:
    """The codec's own name, whatever library decodes it."""
    context = _context(stream)
    return context.codec.canonical_name if context else "unknown"


def _context(stream: Stream) -> CodecContext | None:
    """PyAV's types say that there always is one; for a codec unknown to FFmpeg there is not."""
    return stream.codec_context


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _tag(tags: Sequence[Mapping[str, str]], key: str) -> str | None:
    """MP3 and MP4 keep tags beside the streams, Ogg within them; the case of the key varies."""
    for metadata in tags:
        for name, value in metadata.items():
            text = printable_name(readable(value))
            if name.lower() == key and text:
                return text[:TAG_LENGTH]
    return None
