"""Signed preview URLs: valid for one media item until they expire, stateless. Pure.

The key is derived from the encryption key for this purpose alone: a signature holds in every process and after a
restart, until the encryption key changes.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from telewarm.errors import UsageError
from telewarm.models import MediaId

KEY_PURPOSE = b"telewarm preview urls, version 1"
MAX_TTL_SECONDS = 7 * 24 * 3600  # seconds


class PreviewVariant(StrEnum):
    """Content that a preview shows."""

    FILE = "file"
    THUMBNAIL = "thumbnail"


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedPreview:
    """Parameters of a signed URL. `expires`: seconds since 1970."""

    media_id: MediaId
    variant: PreviewVariant
    expires: int
    signature: str = field(repr=False)


class PreviewUrlSigner:
    """Signer with a derived key; HMAC-SHA-256 over id, variant and expiry."""

    def __init__(self, encryption_key: bytes) -> None:
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=KEY_PURPOSE).derive(encryption_key)

    def sign(self, media_id: MediaId, variant: PreviewVariant, *, seconds: int, now: datetime) -> SignedPreview:
        """Sign for `seconds` (1 s to 7 days) from `now`, an aware time."""
        if not 1 <= seconds <= MAX_TTL_SECONDS:
            raise UsageError(f"A preview URL may live 1 to {MAX_TTL_SECONDS} seconds, not {seconds}.")
        return self.until(media_id, variant, int(now.timestamp()) + seconds)

    def until(self, media_id: MediaId, variant: PreviewVariant, expires: int) -> SignedPreview:
        """Sign until an expiry time."""
        return SignedPreview(
            media_id=media_id, variant=variant, expires=expires, signature=self._signature(media_id, variant, expires)
        )

    def verify(self, media_id: MediaId, expires: int, signature: str) -> SignedPreview | None:
        """Return the preview that a signature stands for; None for an invalid one. Constant time."""
        given = signature.encode()
        right = [
            ticket
            for ticket in (self.until(media_id, variant, expires) for variant in PreviewVariant)
            if hmac.compare_digest(ticket.signature.encode(), given)
        ]
        return right[0] if right else None

    def _signature(self, media_id: MediaId, variant: PreviewVariant, expires: int) -> str:
        text = f"{media_id}\n{variant}\n{expires}"
        return urlsafe_b64encode(hmac.digest(self._key, text.encode(), "sha256")).decode().rstrip("=")
