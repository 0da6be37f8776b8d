"""Presigned GET URLs by AWS Signature Version 4, with a cached signing key.

Deriving the signing key costs four HMACs and is the same for a whole day, so one signature is left with one hash and
one HMAC. Source: "Authenticating Requests: Using Query Parameters" in the Amazon S3 API reference.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import SplitResult, quote

from telewarm.errors import UsageError

SIGNING_KEY_TTL = timedelta(hours=23)
MAX_EXPIRES_SECONDS = 7 * 24 * 3600  # S3's own limit


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SigningKey:
    """Signing key of one day, with its scope. Not for printing."""

    key: bytes
    scope: str
    query: str
    expires_at: datetime


class S3UrlSigner:
    """Signs for one credential in one region; caches a signing key for a day and replaces it after 23 hours."""

    def __init__(
        self,
        *,
        access_key_id: str,
        secret_access_key: str,
        region: str,
        url: SplitResult,
        session_token: str | None = None,
    ) -> None:
        """`url`: the prefix of keys (scheme, host and path, without a closing slash)."""
        self._access_key_id = access_key_id
        self._secret = b"AWS4" + secret_access_key.encode()
        self._region = region
        self._token = f"&X-Amz-Security-Token={quote(session_token, safe='~')}" if session_token else ""
        self._origin = f"{url.scheme}://{url.netloc}"
        self._path = quote(url.path)
        self._host = url.netloc
        self._keys: dict[str, SigningKey] = {}

    def presigned_get(self, key: str, *, expires: int, now: datetime) -> str:
        """Return a URL for GET, valid `expires` seconds (1 s to 7 days) from `now`, an aware time."""
        if not 1 <= expires <= MAX_EXPIRES_SECONDS:
            raise UsageError(f"A presigned URL may live 1 to {MAX_EXPIRES_SECONDS} seconds, not {expires}.")
        stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        day = self._keys.get(stamp[:8])
        if day is None or now >= day.expires_at:
            day = self._derive_key(stamp[:8], now)
        path = f"{self._path}/{quote(key, safe='/~')}"
        query = f"{day.query}{stamp}&X-Amz-Expires={expires}{self._token}&X-Amz-SignedHeaders=host"
        request = f"GET\n{path}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{day.scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(day.key, text.encode(), "sha256").hex()
        return f"{self._origin}{path}?{query}&X-Amz-Signature={signature}"

    def _derive_key(self, date: str, now: datetime) -> SigningKey:
        key = self._secret
        for part in (date, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        scope = f"{date}/{self._region}/s3/aws4_request"
        credential = quote(f"{self._access_key_id}/{scope}", safe="~")
        query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date="
        fresh = SigningKey(key=key, scope=scope, query=query, expires_at=now + SIGNING_KEY_TTL)
        self._keys = {other: kept for other, kept in self._keys.items() if now < kept.expires_at} | {date: fresh}
        return fresh
