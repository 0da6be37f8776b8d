"""The boxes that an MP4 or MOV file is made of: whether all that they announce is there.

A decoder is content with a file whose index comes first and whose picture ends in the middle: it never looks that far.
"""

from __future__ import annotations

from typing import BinaryIO, Final

HEAD: Final = 8  # bytes: the length, and what it is
LONG: Final = 8  # more bytes, of a length that does not fit into four
MOST: Final = 10_000  # boxes looked at; a recording in pieces of a second has three hours then
NEEDED: Final = frozenset({b"mdat", b"moov", b"moof"})  # what follows of other boxes may be missing


def missing(file: BinaryIO, size: int) -> int:
    """How many bytes of the picture, the sound or their index are not there. Blocking, a small read for each box."""
    begin = 0
    for _ in range(MOST):
        if begin + HEAD > size:
            return 0
        file.seek(begin)
        head = file.read(HEAD + LONG)
        length = int.from_bytes(head[:4])
        if length == 1 and len(head) == HEAD + LONG:
            length = int.from_bytes(head[HEAD:])
        if length < HEAD:  # 0: to the end of the file; any other is damage, which the decoder judges
            return 0
        begin += length
        if begin > size:
            return begin - size if head[4:HEAD] in NEEDED else 0
    return 0
