"""Thumbnails as Telegram wants them. Only a worker process imports this."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any, Final

import av
from av.video.frame import VideoFrame
from PIL import Image, ImageStat

from telewarm.probe.decode import PIXELS, DecodeLimitExceeded, NoMediaStream, cover, frames, moving, opened
from telewarm.probe.ipc import Job
from telewarm.probe.stills import PICTURES, Undrawable, shrunk
from telewarm.probe.turning import stretch_of, turn_of, turned

SIDE: Final = 320  # pixels, the longest
QUALITY: Final = 87  # of a JPEG this small, even pure noise stays below the 200 kB that Telegram takes
SHARES: Final = (0.1, 0.25, 0.5)  # of a video, at which its thumbnail is taken: openings are often black
FLAT: Final = 6.0  # standard deviation of the brightness below which a picture shows nothing
FORWARD: Final = 40  # frames decoded at most to come nearer to that share
# PyAV 17 and newer scale in several threads: each would hold memory of its own until none is left for the next.
ONE_THREAD: Final[dict[str, Any]] = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
COVERS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF")


def draw(job: Job) -> bytes | None:
    """A JPEG of at most SIDE pixels a side; None where there is nothing to show."""
    pillow_name = PICTURES.get(job.facts.mime)
    if pillow_name is not None:
        picture = shrunk(job.file(), (pillow_name,), side=SIDE, pixels=PIXELS)
        if picture is None:
            raise DecodeLimitExceeded(job.facts.width or 0, job.facts.height or 0)
        return _encode(picture)
    if job.demuxer is None:
        return None
    return _from_container(job)


def _from_container(job: Job) -> bytes | None:
    with opened(job) as container:
        if moving(container) is not None:
            return None if "video" in job.encrypted else _encode(_early_picture(job))
        picture = cover(container)
        if picture is None:
            return None
        packet = next(container.demux(picture))
    try:
        found = shrunk(io.BytesIO(bytes(packet)), COVERS, side=SIDE, pixels=PIXELS)
    except Undrawable:
        return None  # the sound is none the worse for a damaged cover
    return None if found is None else _encode(found)


def _early_picture(job: Job) -> Image.Image:
    """The first of SHARES at which there is something to see; else its first frame: not every container can seek."""
    first: Image.Image | None = None
    for share in SHARES:
        try:
            picture = _picture_at(job, share)
        except (av.FFmpegError, NoMediaStream):
            break
        if ImageStat.Stat(picture.convert("L")).stddev[0] >= FLAT:
            return picture
        first = first or picture
    return first or _picture_at(job, 0)


def _picture_at(job: Job, share: float) -> Image.Image:
    with opened(job) as container:
        video = moving(container)
        if video is None:
            raise NoMediaStream("there is no picture in it")
        start, goal = container.start_time or 0, int((container.duration or 0) * share)
        if goal:
            container.seek(start + goal)
        frame = _frame_near(frames(container, video), (start + goal) / av.time_base)
        seen = (float(frame.width * stretch_of(video)), float(frame.height))
        scale = min(1.0, SIDE / max(seen))
        width, height = (min(SIDE, max(1, round(side * scale))) for side in seen)
        plane = frame.reformat(width=width, height=height, format="rgb24", **ONE_THREAD).planes[0]
    picture = Image.frombytes("RGB", (width, height), bytes(plane), "raw", "RGB", plane.line_size)
    return turned(picture, turn_of(frame))


def _frame_near(found: Iterator[VideoFrame], seconds: float) -> VideoFrame:
    """The first frame at or after a time; seeking lands on the key frame before it, which may be far, so not far on."""
    frame = next(found)
    for later in itertools.islice(found, FORWARD):
        if frame.pts is None or frame.time >= seconds:
            break
        frame = later
    return frame


def _encode(picture: Image.Image) -> bytes:
    page = Image.new("RGB", picture.size, "white")  # a new one: no comment, profile or EXIF of the original comes along
    page.paste(picture, mask=picture if picture.mode == "RGBA" else None)
    sink = io.BytesIO()
    page.save(sink, "JPEG", quality=QUALITY, optimize=True)
    return sink.getvalue()
