"""Pictures by Pillow: whether one can be decoded, and a reduced copy. Imported by worker processes only."""

from __future__ import annotations

import io
from typing import BinaryIO, Final

from PIL import Image

PICTURES: Final = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/gif": "GIF",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
}
MAX_CHECK_SIDE_PIXELS: Final = 640  # a JPEG is decoded no larger to check its end
ORIENTATION: Final = 0x0112
FILLER: Final = b"\x55" * 1024  # a scan's data, longer than what any end can lack
END_OF_JPEG: Final = b"\xff\xd9"
UPRIGHT: Final = {  # EXIF orientations
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

WORKER_ERRORS: Final = (MemoryError, PermissionError, ImportError)  # not caused by a file: reported by the worker

Image.MAX_IMAGE_PIXELS = None  # our own limits apply after the decoder was asked for a smaller picture


class Undrawable(Exception):
    """A picture that Pillow cannot draw. Damaged files can raise anything."""


def problem_of(file: BinaryIO, mime: str, pixels: int) -> str | None:
    """Return why a picture cannot be decoded; None when it can, or when it exceeds the pixel limit."""
    try:
        with Image.open(file, formats=(PICTURES[mime],)) as image:
            image.draft("RGB", (MAX_CHECK_SIDE_PIXELS, MAX_CHECK_SIDE_PIXELS))
            if image.width * image.height <= pixels:
                image.load()
    except WORKER_ERRORS:
        raise
    except Exception:  # noqa: BLE001 Pillow raises anything
        lacks_mark_alone = mime == "image/jpeg" and _is_complete_jpeg(_content(file))
        return None if lacks_mark_alone else "it is cut off or damaged"
    return None


def _is_complete_jpeg(data: bytes) -> bool:
    """Return whether only the end marker is missing, as some cameras omit it: more data would change no pixel."""
    try:
        return _pixels(data + END_OF_JPEG) == _pixels(data + FILLER + END_OF_JPEG)
    except WORKER_ERRORS:
        raise
    except Exception:  # noqa: BLE001 Pillow raises anything
        return False


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.draft("RGB", (MAX_CHECK_SIDE_PIXELS, MAX_CHECK_SIDE_PIXELS))
        return image.tobytes()


def shrunk(source: BinaryIO, formats: tuple[str, ...], *, side: int, pixels: int) -> Image.Image | None:
    """Return a copy within `side` pixels, upright; None above the pixel limit. Raises Undrawable."""
    try:
        with Image.open(source, formats=formats) as image:
            image.draft("RGB", (2 * side, 2 * side))
            if image.width * image.height > pixels:
                return None
            turn = UPRIGHT.get(_orientation(image))
            picture = _plain(image)
            picture.thumbnail((side, side))
            return picture if turn is None else picture.transpose(turn)
    except WORKER_ERRORS:
        raise
    except Exception as exc:
        raise Undrawable(f"the decoder gave up ({type(exc).__name__})") from exc


def _plain(image: Image.Image) -> Image.Image:
    """Convert to RGB, with transparency if there is any. Pillow would clip 16 bits a pixel at 255."""
    if image.mode.startswith("I"):
        top = image.getextrema()[1]
        scale = 1 / 256 if isinstance(top, int | float) and top > 255 else 1.0
        return image.convert("I").point(lambda value: value * scale).convert("L").convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation. Damaged EXIF has none; reading it, Pillow repacks it, which may fail."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001 Pillow raises anything
        return 1
    return value if isinstance(value, int) else 1
