"""Object keys, derived from content: the same bytes are stored once, and a key never changes its meaning."""

from __future__ import annotations

import re

from telewarm.errors import UsageError
from telewarm.models import Sha256

SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
EXTENSION_PATTERN = re.compile(r"[a-z0-9]{1,16}")


def blob_key(sha256: Sha256, ext: str) -> str:
    """Return the key of a blob. `ext`: lower-case, without the dot."""
    if not EXTENSION_PATTERN.fullmatch(ext):
        raise UsageError(f"{ext!r} is no file extension: use 1 to 16 lower-case letters and digits, without the dot.")
    return f"media/{_shard(sha256)}.{ext}"


def thumbnail_key(sha256: Sha256) -> str:
    """Return the key of a blob's thumbnail. `sha256`: of the blob, not of the thumbnail."""
    return f"thumbnails/{_shard(sha256)}.jpg"


def _shard(sha256: Sha256) -> str:
    if not SHA256_PATTERN.fullmatch(sha256):
        raise UsageError("A blob is named by 64 lower-case hex digits; this name is something else.")
    return f"{sha256[:2]}/{sha256}"  # one level: a second one more than doubles the cost of a put
