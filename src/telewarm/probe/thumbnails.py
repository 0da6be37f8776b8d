"""Thumbnails for Telegram. Imported by worker processes only."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any, Final

import av
from av.video.frame import VideoFrame
from PIL import Image, ImageStat

from telewarm.probe.decode import (
    MAX_PIXELS,
    DecodeLimitExceeded,
    NoMediaStream,
    cover_stream,
    frames,
    open_container,
    video_stream,
)
from telewarm.probe.ipc import Job
from telewarm.probe.stills import PICTURES, Undrawable, shrunk
from telewarm.probe.turning import stretch_of, turn_of, turned

MAX_SIDE_PIXELS: Final = 320  # of the longer side
JPEG_QUALITY: Final = 87  # at this size even noise stays below Telegram's 200 kB
CANDIDATE_POSITIONS: Final = (0.1, 0.25, 0.5)  # of a video's duration, tried in turn: openings are often black
MIN_CONTRAST: Final = 6.0  # standard deviation of the brightness; a picture below it shows nothing
MAX_SKIPPED_FRAMES: Final = 40  # decoded to come closer to the position
# PyAV 17 and newer scale in several threads, each with memory of its own, until none is left.
ONE_THREAD: Final[dict[str, Any]] = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
COVERS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF")


def draw(job: Job) -> bytes | None:
    """Return a JPEG of at most `MAX_SIDE_PIXELS` a side; None when nothing can be shown."""
    pillow_name = PICTURES.get(job.facts.mime)
    if pillow_name is not None:
        picture = shrunk(job.file(), (pillow_name,), side=MAX_SIDE_PIXELS, pixels=MAX_PIXELS)
        if picture is None:
            raise DecodeLimitExceeded(job.facts.width or 0, job.facts.height or 0)
        return _encode(picture)
    if job.demuxer is None:
        return None
    return _from_container(job)


def _from_container(job: Job) -> bytes | None:
    with open_container(job) as container:
        if video_stream(container) is not None:
            return None if "video" in job.encrypted else _encode(_early_picture(job))
        picture = cover_stream(container)
        if picture is None:
            return None
        packet = next(container.demux(picture))
    try:
        found = shrunk(io.BytesIO(bytes(packet)), COVERS, side=MAX_SIDE_PIXELS, pixels=MAX_PIXELS)
    except Undrawable:
        return None  # a damaged cover does not affect the sound
    return None if found is None else _encode(found)


def _early_picture(job: Job) -> Image.Image:
    """Return the first picture of `CANDIDATE_POSITIONS` with contrast, else the first frame.."""
    first: Image.Image | None = None
    for share in CANDIDATE_POSITIONS:
        try:
            picture = _picture_at(job, share)
        except (av.FFmpegError, NoMediaStream):
            break
        if ImageStat.Stat(picture.convert("L")).stddev[0] >= MIN_CONTRAST:
            return picture
        first = first or picture
    return first or _picture_at(job, 0)


def _picture_at(job: Job, share: float) -> Image.Image:
    with open_container(job) as container:
        video = video_stream(container)
        if video is None:
            raise NoMediaStream("there is no picture in it")
        start, goal = container.start_time or 0, int((container.duration or 0) * share)
        if goal:
            container.seek(start + goal)
        frame = _frame_near(frames(container, video), (start + goal) / av.time_base)
        seen = (float(frame.width * stretch_of(video)), float(frame.height))
        scale = min(1.0, MAX_SIDE_PIXELS / max(seen))
        width, height = (min(MAX_SIDE_PIXELS, max(1, round(side * scale))) for side in seen)
        plane = frame.reformat(width=width, height=height, format="rgb24", **ONE_THREAD).planes[0]
    picture = Image.frombytes("RGB", (width, height), bytes(plane), "raw", "RGB", plane.line_size)
    return turned(picture, turn_of(frame))


def _frame_near(found: Iterator[VideoFrame], seconds: float) -> VideoFrame:
    """Return the first frame at or after a time; the key frame of the seek may be far before it."""
    frame = next(found)
    for later in itertools.islice(found, MAX_SKIPPED_FRAMES):
        if frame.pts is None or frame.time >= seconds:
            break
        frame = later
    return frame


def _encode(picture: Image.Image) -> bytes:
    page = Image.new("RGB", picture.size, "white")  # a new image has no comment, profile or EXIF of the original
    page.paste(picture, mask=picture if picture.mode == "RGBA" else None)
    sink = io.BytesIO()
    page.save(sink, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return sink.getvalue()
