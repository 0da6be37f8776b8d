"""Repair of titles and performers in old encodings. Pure."""

from __future__ import annotations

import codecs
from typing import Final

CYRILLIC_BYTES: Final = frozenset(bytes(range(0xC0, 0x100)) + b"\xa8\xb8\xaa\xba\xaf\xbf\xb2\xb3\xa5\xb4\xa1\xa2")
VOWELS: Final = frozenset("аеёиоуыэюяієї")
MIN_CYRILLIC_LETTERS: Final = 4  # letters
VOWEL_SHARES: Final = (0.2, 0.8)  # of vowels among them, in all languages that use the script

for page in ("cp1251", "cp1252"):
    codecs.lookup(page)  # at import: a decoder process cannot load modules later


def readable(text: str) -> str:
    """Decode an old tag.

    It has the bytes of a Windows code page, which FFmpeg reads as Latin-1 in an MP3, and as surrogates otherwise.
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
    """Decode as Windows-1251, if it is plausible: whole words, capitals only in front, enough vowels."""
    high = [byte for byte in raw if byte > 0x7F]
    letters = [byte for byte in high if byte in CYRILLIC_BYTES]
    if len(letters) < MIN_CYRILLIC_LETTERS:
        return None
    text = raw.decode("cp1251", errors="replace")
    words = ["".join(char for char in word if char.isalpha()) for word in text.replace("-", " ").split()]
    foreign = [word for word in words if any("Ѐ" <= char <= "ӿ" for char in word)]
    if not all(_is_word(word) for word in foreign):
        return None
    joined = "".join(foreign).lower()
    vowels = sum(char in VOWELS for char in joined)
    return text if joined and VOWEL_SHARES[0] <= vowels / len(joined) <= VOWEL_SHARES[1] else None


def _is_word(word: str) -> bool:
    """Return whether a word is Cyrillic only, and capitalised, lower-case or upper-case."""
    return all("Ѐ" <= char <= "ӿ" for char in word) and (word.islower() or word.isupper() or word.istitle())
