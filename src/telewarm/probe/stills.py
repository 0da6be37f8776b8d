"""Pictures through Pillow: whether one can be decoded, and a small one of it. Only a worker process imports this."""

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
ROUGH: Final = 640  # pixels: a JPEG is decoded no larger where its end is all that matters
ORIENTATION: Final = 0x0112
FILLER: Final = b"\x55" * 1024  # as much of a scan's data as any end can lack
END_OF_JPEG: Final = b"\xff\xd9"
UPRIGHT: Final = {  # EXIF's orientations
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

OURS: Final = (MemoryError, PermissionError, ImportError)  # what no file causes alone: the worker tells of it

Image.MAX_IMAGE_PIXELS = None  # our own limits count after the decoder was asked for a smaller picture


class Undrawable(Exception):
    """A picture that Pillow does not draw. It raises anything at damaged files."""


def problem_of(file: BinaryIO, mime: str, pixels: int) -> str | None:
    """Why it cannot be decoded; None when it can, or when it has more pixels than are decoded."""
    try:
        with Image.open(file, formats=(PICTURES[mime],)) as image:
            image.draft("RGB", (ROUGH, ROUGH))
            if image.width * image.height <= pixels:
                image.load()
    except OURS:
        raise
    except Exception:  # noqa: BLE001 Pillow raises anything
        lacks_mark_alone = mime == "image/jpeg" and _is_complete_jpeg(_content(file))
        return None if lacks_mark_alone else "it is cut off or damaged"
    return None


def _is_complete_jpeg(data: bytes) -> bool:
    """Whether nothing but the mark of its end is missing, as cameras forget it: more data would change no pixel."""
    try:
        return _pixels(data + END_OF_JPEG) == _pixels(data + FILLER + END_OF_JPEG)
    except OURS:
        raise
    except Exception:  # noqa: BLE001 Pillow raises anything
        return False


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.draft("RGB", (ROUGH, ROUGH))
        return image.tobytes()


def shrunk(source: BinaryIO, formats: tuple[str, ...], *, side: int, pixels: int) -> Image.Image | None:
    """Within `side` pixels each way, upright; None for one with more pixels than are decoded. Raises Undrawable."""
    try:
        with Image.open(source, formats=formats) as image:
            image.draft("RGB", (2 * side, 2 * side))
            if image.width * image.height > pixels:
                return None
            turn = UPRIGHT.get(_orientation(image))
            picture = _plain(image)
            picture.thumbnail((side, side))
            return picture if turn is None else picture.transpose(turn)
    except OURS:
        raise
    except Exception as exc:
        raise Undrawable(f"the decoder gave up ({type(exc).__name__})") from exc


def _plain(image: Image.Image) -> Image.Image:
    """In RGB, with transparency if it has any. Pillow would cut 16 bits a pixel off at 255."""
    if image.mode.startswith("I"):
        top = image.getextrema()[1]
        scale = 1 / 256 if isinstance(top, int | float) and top > 255 else 1.0
        return image.convert("I").point(lambda value: value * scale).convert("L").convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _orientation(image: Image.Image) -> int:
    """Damaged EXIF says nothing. Where it is asked for, it is also repacked by Pillow, which may fail."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001 Pillow raises anything
        return 1
    return value if isinstance(value, int) else 1
