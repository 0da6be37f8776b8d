"""Results of the sniffers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Facts:
    """Metadata, filled in while the bytes stream. Sides in pixels as seen, duration in seconds, 0 where unknown."""

    format: str = ""  # jpeg, png, gif, webp, bmp, tiff, mp4, webm, avi, ogg, mp3, flac, wav, pdf, zip, tgs
    width: int = 0
    height: int = 0
    duration: float = 0.0
    video: bool = False
    audio: bool = False
    opus: bool = False
    byte_rate: int = 0  # of an MP3, to estimate its duration
    title: str = ""
    performer: str = ""
