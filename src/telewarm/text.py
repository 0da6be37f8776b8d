"""Text that PostgreSQL can store."""

from __future__ import annotations

NUL_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> str:
    """Replace each NUL and each lone surrogate."""
    if "\0" in text:
        text = text.replace("\0", NUL_REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
