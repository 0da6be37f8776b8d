"""Signed URLs, which stand for a token when one media item is looked at."""

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
    """`expires` 0: the URL does not say when it ends, or not once."""

    media_id: MediaId
    expires: int
    signature: str = field(repr=False)


def params_from_scope(scope: Mapping[str, Any]) -> SignedUrlParams | None:
    """What the URL brings; None: it carries no signature, or this is no place for one."""
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
    """The ticket; None: it was not signed here, or not for this. Raises HttpError when it has expired."""
    ticket = signer.verify(params.media_id, params.expires, params.signature)
    if ticket is not None and ticket.expires <= clock.now().timestamp():
        raise HttpError(
            410, "URL_EXPIRED", "this URL has expired: have a new one made with POST /api/admin/media/{id}/preview-url"
        )
    return ticket


def url_of(signed_preview: SignedPreview) -> str:
    """Relative to where the API is."""
    what = "thumbnail=1&" if signed_preview.variant is PreviewVariant.THUMBNAIL else ""
    query = f"{what}expires={signed_preview.expires}&signature={signed_preview.signature}"
    return f"{PREVIEW_PATH}/{signed_preview.media_id}?{query}"


def stable_url(signer: PreviewUrlSigner, media_id: MediaId) -> str:
    """Of the file, good for one to two hours, and the same for an hour, so that a browser need not load it again."""
    expires = (int(clock.now().timestamp()) // STABLE_URL_SECONDS + 2) * STABLE_URL_SECONDS
    return url_of(signer.until(media_id, PreviewVariant.FILE, expires))


def bad_signature_error() -> HttpError:
    return HttpError(
        403,
        "BAD_SIGNATURE",
        "the signature of this URL is not right: use the URL exactly as it was made, or have a new one made with POST "
        "/api/admin/media/{id}/preview-url (all end when the encryption key is rotated)",
    )
