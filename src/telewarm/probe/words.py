"""Explanations of unreadable files. Pure."""

from __future__ import annotations

from typing import Final

from telewarm.errors import UnreadableMedia
from telewarm.models import MediaMetadata

PLAIN: Final = {  # FFmpeg's texts, which are those of the operating system, in terms of the file
    "Operation not permitted": "its data is damaged, or encrypted",
    "Invalid data found when processing input": "its data is damaged",
    "Not yet implemented in FFmpeg, patches welcome": "the decoder does not know this variant of the format",
    "Invalid argument": "its data contradicts itself",
    "Input/output error": "its data ends too early",
    "End of file": "its data ends too early",
    "Function not implemented": "the decoder does not know this variant of the format",
    "Decoder not found": "there is no decoder for it",
    "Demuxer not found": "there is no decoder for it",
    "Cannot allocate memory": "decoding it takes more memory than is allowed",
}
DAMAGED: Final = "its data is damaged"


def unreadable(facts: MediaMetadata, problem: str) -> UnreadableMedia:
    """Create the error for an unreadable file."""
    message = f"This {facts.ext.upper()} file cannot be read: {problem}. Upload a whole one, or add it as a document"
    return UnreadableMedia(f"{message} (--kind document).", problem=problem)


def plain(strerror: str | None) -> str:
    """Return FFmpeg's reason in terms that a sender of files understands."""
    return PLAIN.get(strerror or "", DAMAGED)
