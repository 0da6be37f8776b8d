"""Thumbnails as Telegram wants them. Only a worker process imports this."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Final

import av
from av.video.frame import VideoFrame
from PIL import Image, ImageOps

from telewarm.probe.decode import PIXELS, NothingThere, TooLarge, cover, frames, moving, opened
from telewarm.probe.wire import Job

SIDE: Final = 320  # pixels, the longest
QUALITY: Final = 87  # of a JPEG this small, even pure noise stays below the 200 kB that Telegram takes
EARLY: Final = 0.1  # the share of a video at which its thumbnail is taken: openings are often black
FORWARD: Final = 40  # frames decoded at most to come nearer to that share
PICTURES: Final = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/gif": "GIF",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
}
COVERS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF")

Image.MAX_IMAGE_PIXELS = None  # our own limit counts after the decoder was asked for a smaller picture


def draw(job: Job) -> bytes | None:
    """A JPEG of at most SIDE pixels a side; None where there is nothing to show."""
    pillow_name = PICTURES.get(job.facts.mime)
    if pillow_name is not None:
        return _encode(_shrunk(job.path, (pillow_name,)))
    if job.demuxer is None:
        return None
    return _from_container(job)


def _from_container(job: Job) -> bytes | None:
    with opened(job) as container:
        if moving(container) is not None:
            return _encode(_early_picture(job))
        picture = cover(container)
        if picture is None:
            return None
        packet = next(container.demux(picture))
    try:
        return _encode(_shrunk(io.BytesIO(bytes(packet)), COVERS))
    except (OSError, SyntaxError, ValueError, TooLarge):
        return None  # the sound is none the worse for a damaged cover


def _early_picture(job: Job) -> Image.Image:
    """The frame at EARLY of the video, else its first: not every container can seek."""
    try:
        return _picture_at(job, EARLY)
    except (av.FFmpegError, NothingThere):
        return _picture_at(job, 0)


def _picture_at(job: Job, share: float) -> Image.Image:
    with opened(job) as container:
        video = moving(container)
        if video is None:
            raise NothingThere("there is no picture in it")
        start, goal = container.start_time or 0, int((container.duration or 0) * share)
        if goal:
            container.seek(start + goal)
        frame = _frame_near(frames(container, video), (start + goal) / av.time_base)
        scale = min(1.0, SIDE / max(frame.width, frame.height))
        width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
        plane = frame.reformat(width=width, height=height, format="rgb24").planes[0]
    picture = Image.frombytes("RGB", (width, height), bytes(plane), "raw", "RGB", plane.line_size)
    return picture.rotate(frame.rotation, expand=True)


def _frame_near(found: Iterator[VideoFrame], seconds: float) -> VideoFrame:
    """The first frame at or after a time; seeking lands on the key frame before it, which may be far, so not far on."""
    frame = next(found)
    for later in itertools.islice(found, FORWARD):
        if frame.pts is None or frame.time >= seconds:
            break
        frame = later
    return frame


def _shrunk(source: str | io.BytesIO, formats: tuple[str, ...]) -> Image.Image:
    with Image.open(source, formats=formats) as image:
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        if image.width * image.height > PIXELS:
            raise TooLarge(image.width, image.height)
        transparent = image.has_transparency_data
        picture = image.convert("RGBA" if transparent else "RGB")
        picture.thumbnail((SIDE, SIDE))
        return ImageOps.exif_transpose(picture)


def _encode(picture: Image.Image) -> bytes:
    page = Image.new("RGB", picture.size, "white")  # a new one: no comment, profile or EXIF of the original comes along
    page.paste(picture, mask=picture if picture.mode == "RGBA" else None)
    sink = io.BytesIO()
    page.save(sink, "JPEG", quality=QUALITY, optimize=True)
    return sink.getvalue()
