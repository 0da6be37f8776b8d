"""Titles and performers as people wrote them, in whatever encoding. Pure."""

from __future__ import annotations

import codecs
from typing import Final

LETTERS: Final = frozenset(bytes(range(0xC0, 0x100)) + b"\xa8\xb8\xaa\xba\xaf\xbf\xb2\xb3\xa5\xb4\xa1\xa2")
VOWELS: Final = frozenset("аеёиоуыэюяієї")
ENOUGH: Final = 4  # letters of Cyrillic at least
SHARE: Final = (0.2, 0.8)  # of vowels among them, in any language that is written so

for page in ("cp1251", "cp1252"):
    codecs.lookup(page)  # now: a decoder process can read no module later


def readable(text: str) -> str:
    """Tags of old keep the bytes of a Windows code page. FFmpeg takes those of an MP3 for Latin-1, and hands over the
    others as surrogates.
    """
    raw = text.encode(errors="surrogateescape")
    try:
        known = raw.decode()
    except UnicodeDecodeError:
        return _cyrillic(raw) or raw.decode("cp1252", errors="replace")
    try:
        return _cyrillic(known.encode("latin-1")) or known
    except UnicodeEncodeError:
        return known


def _cyrillic(raw: bytes) -> str | None:
    """Windows-1251, if nothing else it could be: whole words of its letters, capitals in front, vowels among them."""
    high = [byte for byte in raw if byte > 0x7F]
    letters = [byte for byte in high if byte in LETTERS]
    if len(letters) < ENOUGH:
        return None
    text = raw.decode("cp1251", errors="replace")
    words = ["".join(char for char in word if char.isalpha()) for word in text.replace("-", " ").split()]
    foreign = [word for word in words if any("Ѐ" <= char <= "ӿ" for char in word)]
    if not all(_is_word(word) for word in foreign):
        return None
    joined = "".join(foreign).lower()
    vowels = sum(char in VOWELS for char in joined)
    return text if joined and SHARE[0] <= vowels / len(joined) <= SHARE[1] else None


def _is_word(word: str) -> bool:
    """Of Cyrillic alone, and in the case of a name, a sentence or a shout."""
    return all("Ѐ" <= char <= "ӿ" for char in word) and (word.islower() or word.isupper() or word.istitle())
