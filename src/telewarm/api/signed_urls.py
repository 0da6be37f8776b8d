"""Signed URLs, which replace a token for viewing one media item."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from telewarm import clock
from telewarm.api.error_responses import HttpError
from telewarm.api.permissions import READ_METHODS, Principal, route_path
from telewarm.database.tokens import Role
from telewarm.media.preview_urls import PreviewUrlSigner, PreviewVariant, SignedPreview
from telewarm.models import MediaId

PREVIEW_PATH = "/api/media/preview"
PREVIEW_PATH_PATTERN = re.compile(rf"{PREVIEW_PATH}/([1-9][0-9]{{0,18}})")
EXPIRES_PATTERN = re.compile(r"[1-9][0-9]{0,11}")
STABLE_URL_SECONDS = 3600  # seconds
SIGNED_URL_PRINCIPAL = Principal(name="signed url", role=Role.READ)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedUrlParams:
    """Parameters of the URL. `expires` 0: missing or repeated."""

    media_id: MediaId
    expires: int
    signature: str = field(repr=False)


def params_from_scope(scope: Mapping[str, Any]) -> SignedUrlParams | None:
    """Return the parameters; None: no signature, or not on a preview route."""
    path = PREVIEW_PATH_PATTERN.fullmatch(route_path(scope)) if scope["method"] in READ_METHODS else None
    if path is None:
        return None
    fields = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    if "signature" not in fields:
        return None
    expires, signatures = fields.get("expires", []), fields["signature"]
    says_when = len(expires) == 1 and EXPIRES_PATTERN.fullmatch(expires[0])
    return SignedUrlParams(
        media_id=MediaId(int(path[1])),
        expires=int(expires[0]) if says_when else 0,
        signature=signatures[0] if len(signatures) == 1 else "",
    )


def verify(signer: PreviewUrlSigner, params: SignedUrlParams) -> SignedPreview | None:
    """Return the signed preview; None for an invalid signature. Raises HttpError for an expired one."""
    ticket = signer.verify(params.media_id, params.expires, params.signature)
    if ticket is not None and ticket.expires <= clock.now().timestamp():
        raise HttpError(
            410, "URL_EXPIRED", "this URL has expired: have a new one made with POST /api/admin/media/{id}/preview-url"
        )
    return ticket


def url_of(signed_preview: SignedPreview) -> str:
    """Return the URL, relative to the API."""
    what = "thumbnail=1&" if signed_preview.variant is PreviewVariant.THUMBNAIL else ""
    query = f"{what}expires={signed_preview.expires}&signature={signed_preview.signature}"
    return f"{PREVIEW_PATH}/{signed_preview.media_id}?{query}"


def stable_url(signer: PreviewUrlSigner, media_id: MediaId) -> str:
    """Return a URL of the file, valid for one to two hours and equal within an hour, so that browsers can cache."""
    expires = (int(clock.now().timestamp()) // STABLE_URL_SECONDS + 2) * STABLE_URL_SECONDS
    return url_of(signer.until(media_id, PreviewVariant.FILE, expires))


def bad_signature_error() -> HttpError:
    """Create the error of an invalid signature."""
    return HttpError(
        403,
        "BAD_SIGNATURE",
        "the signature of this URL is not right: use the URL exactly as it was made, or have a new one made with POST "
        "/api/admin/media/{id}/preview-url (all end when the encryption key is rotated)",
    )
