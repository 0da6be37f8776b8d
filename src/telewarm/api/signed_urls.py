"""Signed URLs, which stand for a token when one media item is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from telewarm import clock
from telewarm.api.error_responses import HttpError
from telewarm.api.permissions import READING, Principal, route_path
from telewarm.database.tokens import Role
from telewarm.media.preview_urls import PreviewUrlSigner, PreviewVariant, SignedPreview
from telewarm.models import MediaId

PREVIEW = "/api/media/preview"
PATH = re.compile(rf"{PREVIEW}/([1-9][0-9]{{0,18}})")
SECONDS = re.compile(r"[1-9][0-9]{0,11}")
STEADY = 3600  # seconds
SIGNED_URL_PRINCIPAL = Principal(name="signed url", role=Role.READ)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedUrlParams:
    """`expires` 0: the URL does not say when it ends, or not once."""

    media_id: MediaId
    expires: int
    signature: str = field(repr=False)


def given(scope: Mapping[str, Any]) -> SignedUrlParams | None:
    """What the URL brings; None: it carries no signature, or this is no place for one."""
    path = PATH.fullmatch(route_path(scope)) if scope["method"] in READING else None
    if path is None:
        return None
    fields = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    if "signature" not in fields:
        return None
    expires, signatures = fields.get("expires", []), fields["signature"]
    says_when = len(expires) == 1 and SECONDS.fullmatch(expires[0])
    return SignedUrlParams(
        media_id=MediaId(int(path[1])),
        expires=int(expires[0]) if says_when else 0,
        signature=signatures[0] if len(signatures) == 1 else "",
    )


def verify(signer: PreviewUrlSigner, brought: SignedUrlParams) -> SignedPreview | None:
    """The ticket; None: it was not signed here, or not for this. Raises HttpError when it has expired."""
    ticket = signer.knows(brought.media_id, brought.expires, brought.signature)
    if ticket is not None and ticket.expires <= clock.now().timestamp():
        raise HttpError(
            410, "URL_EXPIRED", "this URL has expired: have a new one made with POST /api/admin/media/{id}/preview-url"
        )
    return ticket


def url_of(ticket: SignedPreview) -> str:
    """Relative to where the API is."""
    what = "thumbnail=1&" if ticket.variant is PreviewVariant.THUMBNAIL else ""
    return f"{PREVIEW}/{ticket.media_id}?{what}expires={ticket.expires}&signature={ticket.signature}"


def steady_url(signer: PreviewUrlSigner, media_id: MediaId) -> str:
    """Of the file, good for one to two hours, and the same for an hour, so that a browser need not load it again."""
    expires = (int(clock.now().timestamp()) // STEADY + 2) * STEADY
    return url_of(signer.until(media_id, PreviewVariant.FILE, expires))


def wrong() -> HttpError:
    return HttpError(
        403,
        "BAD_SIGNATURE",
        "the signature of this URL is not right: use the URL exactly as it was made, or have a new one made with POST "
        "/api/admin/media/{id}/preview-url (all end when the encryption key is rotated)",
    )
