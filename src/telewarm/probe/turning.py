"""Rotation and pixel aspect of a film. Imported by worker processes only."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Final, NamedTuple

from av.buffer import Buffer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

MATRIX_BYTES: Final = 36  # nine 32-bit numbers
MAX_PIXEL_RATIO: Final = 20  # of width to height of a pixel, or the reverse


class Turn(NamedTuple):
    """Rotation of a film: the sides are swapped first, then the picture is mirrored."""

    swapped: bool = False
    left_right: bool = False
    top_bottom: bool = False


def turn_of(frame: VideoFrame) -> Turn:
    """Return the rotation by the frame's display matrix, to the nearest quarter turn: players do not tilt."""
    data = frame.side_data.get("DISPLAYMATRIX")
    matrix = bytes(data) if isinstance(data, Buffer) else b""
    if len(matrix) < MATRIX_BYTES:
        return Turn()
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(left_right=a < 0, top_bottom=d < 0)
    return Turn(swapped=True, left_right=c < 0, top_bottom=b < 0)


def sides_of(frame: VideoFrame, video: VideoStream, turn: Turn) -> tuple[int, int]:
    """Return the sides as seen, after pixel aspect and rotation."""
    width = max(1, round(frame.width * stretch_of(video)))
    return (frame.height, width) if turn.swapped else (width, frame.height)


def stretch_of(video: VideoStream) -> Fraction:
    """Return the pixel aspect, width by height."""
    ratio = video.sample_aspect_ratio
    return ratio if ratio and Fraction(1, MAX_PIXEL_RATIO) <= ratio <= MAX_PIXEL_RATIO else Fraction(1)


def turned(picture: Image.Image, turn: Turn) -> Image.Image:
    """Rotate a picture."""
    if turn.swapped:
        picture = picture.transpose(Image.Transpose.TRANSPOSE)
    if turn.left_right:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if turn.top_bottom else picture
