"""How a film is turned and stretched before it is seen. Only a worker process imports this."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Final, NamedTuple

from av.buffer import Buffer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

MATRIX_BYTES: Final = 36  # nine 32-bit numbers
WIDEST: Final = 20  # a pixel is at most so many times wider than high, or the other way round


class Turn(NamedTuple):
    """First the sides are swapped, then the picture is mirrored."""

    swapped: bool = False
    left_right: bool = False
    top_bottom: bool = False


def turn_of(frame: VideoFrame) -> Turn:
    """By the frame's display matrix, to the nearest quarter turn: players do not tilt."""
    data = frame.side_data.get("DISPLAYMATRIX")
    matrix = bytes(data) if isinstance(data, Buffer) else b""
    if len(matrix) < MATRIX_BYTES:
        return Turn()
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(left_right=a < 0, top_bottom=d < 0)
    return Turn(swapped=True, left_right=c < 0, top_bottom=b < 0)


def sides_of(frame: VideoFrame, video: VideoStream, turn: Turn) -> tuple[int, int]:
    """As seen: pixels may be oblong, and the film may lie on its side."""
    width = max(1, round(frame.width * stretch_of(video)))
    return (frame.height, width) if turn.swapped else (width, frame.height)


def stretch_of(video: VideoStream) -> Fraction:
    """How many times a pixel is wider than high."""
    ratio = video.sample_aspect_ratio
    return ratio if ratio and Fraction(1, WIDEST) <= ratio <= WIDEST else Fraction(1)


def turned(picture: Image.Image, turn: Turn) -> Image.Image:
    if turn.swapped:
        picture = picture.transpose(Image.Transpose.TRANSPOSE)
    if turn.left_right:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if turn.top_bottom else picture
