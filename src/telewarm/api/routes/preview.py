"""Routes: previews of media, with a token or with a signed URL that expires."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.types import Send

from telewarm import clock
from telewarm.api import byte_ranges
from telewarm.api.dependencies import LimitedBodyRoute, StateDep
from telewarm.api.error_responses import HttpError
from telewarm.api.openapi import Responses, error_responses, responses_of
from telewarm.api.routes.media import ItemDep
from telewarm.api.schemas.bodies import RequestBody
from telewarm.api.schemas.media_and_bots import SignedUrl
from telewarm.api.schemas.types import RejectBool, StrictBool
from telewarm.api.signed_urls import url_of
from telewarm.errors import StoreError
from telewarm.media.content_policy import PreviewContent
from telewarm.media.preview_urls import MAX_TTL_SECONDS, PreviewVariant, SignedPreview

log = structlog.get_logger(__name__)
router = APIRouter(tags=["previews"])
signing_router = APIRouter(tags=["previews"], route_class=LimitedBodyRoute)

DEFAULT_URL_SECONDS = 3600  # of a signed URL, when the caller does not say
MAX_AGE_SECONDS = 3600  # seconds for which a browser need not ask again: the bytes of an item never change
CHUNK_TIMEOUT_SECONDS = 60.0  # seconds for which a caller may leave a piece of 256 KiB lying
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; "
    "style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
    "Accept-Ranges": "bytes",
    "Vary": "Authorization",
}
BINARY_CONTENT: dict[str, Any] = {"*/*": {"schema": {"type": "string", "format": "binary"}, "example": "(bytes)"}}
PREVIEW_RESPONSES: Responses = {
    200: {"description": "The bytes, with their own type", "content": BINARY_CONTENT},
    206: {"description": "One range of them", "content": BINARY_CONTENT},
    304: {"description": "The caller has them already"},
    **error_responses(
        "BAD_SIGNATURE",
        "NOT_FOUND",
        "OBJECT_MISSING",
        "OBJECT_CORRUPT",
        "URL_EXPIRED",
        "RANGE_NOT_SATISFIABLE",
        "STORE_UNAVAILABLE",
    ),
}


class PreviewUrlIn(RequestBody):
    """Lifetime of the URL."""

    seconds: Annotated[
        int, Field(ge=1, le=MAX_TTL_SECONDS, description="How long the URL is good", examples=[600]), RejectBool
    ] = DEFAULT_URL_SECONDS
    thumbnail: Annotated[StrictBool, Field(description="For the thumbnail alone", examples=[True])] = False


@router.head("/media/preview/{media_id}", include_in_schema=False)
@router.get("/media/preview/{media_id}", response_class=Response, responses=PREVIEW_RESPONSES)
async def get_preview(
    found: ItemDep,
    request: Request,
    serving: StateDep,
    thumbnail: Annotated[bool, Query(description="A JPEG within 320 × 320 pixels instead", examples=[True])] = False,  # noqa: FBT002 - a query parameter
) -> Response:
    """Return the file of a media item, or its thumbnail.

    With a token, or with `expires` and `signature` of `preview-url`. One range at a time (`Range: bytes=…`); the ETag
    is the file's SHA-256. Pictures, films and sound are shown by browsers; files that a browser could run are downloads
    without a type.
    """
    ticket: SignedPreview | None = getattr(request.state, "ticket", None)
    if ticket is not None and ticket.variant is PreviewVariant.THUMBNAIL and not thumbnail:
        raise HttpError(403, "BAD_SIGNATURE", "this URL is signed for the thumbnail alone: keep thumbnail=1 in it")
    item, _ = found
    shown = await serving.previews.thumbnail(item) if thumbnail else serving.previews.file(item)
    return await _file_response(request, shown, _headers(shown, ticket))


@signing_router.post("/media/{media_id}/preview-url", **responses_of(SignedUrl, "NOT_FOUND", description="The URL"))
async def create_preview_url(
    found: ItemDep, response: Response, serving: StateDep, body: PreviewUrlIn | None = None
) -> dict[str, object]:
    """Create a URL, relative to this server, by which anybody can view the item until it expires.

    For an `<img>` or a `<video>`, or to pass on. The URL of the file shows the thumbnail too, with `&thumbnail=1`. A
    single URL cannot be revoked: all become invalid when the encryption key is rotated.
    """
    asked = body or PreviewUrlIn()
    item, _ = found
    variant = PreviewVariant.THUMBNAIL if asked.thumbnail else PreviewVariant.FILE
    ticket = serving.preview_signer.sign(item.id, variant, seconds=asked.seconds, now=clock.now())
    response.headers["Cache-Control"] = "no-store"
    return {
        "ok": True,
        "url": url_of(ticket),
        "expires_at": datetime.fromtimestamp(ticket.expires, UTC).isoformat(),
        "expires_in": asked.seconds,
    }


async def _file_response(request: Request, content: PreviewContent, headers: dict[str, str]) -> Response:
    if byte_ranges.matches_etag(request.headers, headers["ETag"]):
        return Response(status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control", "Vary")})
    span = _requested_range(request, content, headers["ETag"])
    begin, end = (0, content.bytes) if span is None else (span.begin, span.end)
    if span is not None:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{content.bytes}"
    headers["Content-Length"] = str(end - begin)
    if request.method == "HEAD":
        end = begin + 1
    body = content.read(begin, end)
    first = await anext(body)  # whatever is wrong with the object is told before the answer begins
    if request.method == "HEAD":
        await body.aclose()
        return Response(headers=headers)
    return AbortOnErrorStreamingResponse(first, body, status=200 if span is None else 206, headers=headers)


def _requested_range(request: Request, content: PreviewContent, etag: str) -> byte_ranges.ByteRange | None:
    if request.method == "HEAD":  # ranges are for GET alone
        return None
    try:
        return byte_ranges.parse_range(request.headers, size=content.bytes, etag=etag)
    except byte_ranges.RangeNotSatisfiable:
        raise HttpError(
            416,
            "RANGE_NOT_SATISFIABLE",
            f"the range begins after the end: this has {content.bytes} bytes",
            headers={"Content-Range": f"bytes */{content.bytes}"},
        ) from None


def _headers(content: PreviewContent, signed_preview: SignedPreview | None) -> dict[str, str]:
    """Return the headers: a signed URL may be embedded anywhere, what a token opened is for its holder."""
    left = (
        MAX_AGE_SECONDS
        if signed_preview is None
        else min(MAX_AGE_SECONDS, max(0, signed_preview.expires - int(clock.now().timestamp())))
    )
    return {
        **SECURITY_HEADERS,
        "Content-Type": content.mime,
        "Content-Disposition": content_disposition(content.name, inline=content.inline),
        "ETag": f'"{content.tag}"',
        "Cache-Control": f"private, max-age={left}",
        "Cross-Origin-Resource-Policy": "same-origin" if signed_preview is None else "cross-origin",
    }


def content_disposition(name: str, *, inline: bool) -> str:
    """Return Content-Disposition by RFC 6266: an ASCII name, and the exact one in `filename*`."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in name)
    shown = f'{"inline" if inline else "attachment"}; filename="{plain}"'
    exact = quote(name.encode("utf-8", "replace"), safe="")
    return shown if plain == name else f"{shown}; filename*=UTF-8''{exact}"


class AbortOnErrorStreamingResponse(StreamingResponse):
    """Response that breaks the connection on an error, so that nobody takes a part for the whole."""

    def __init__(
        self, first: bytes, rest: AsyncGenerator[bytes, None], *, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(rest, status, headers)
        self._first = first
        self._rest = rest

    async def stream_response(self, send: Send) -> None:
        """Send the response."""
        async with aclosing(self._rest):
            try:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await _send_chunk(send, self._first)
                async for chunk in self._rest:
                    await _send_chunk(send, chunk)
            except StoreError as error:
                log.warning("preview_stream_aborted", code=error.code, error=error.message)
                return  # the server closes a connection whose answer is not whole
            except TimeoutError:
                log.info("preview_client_stalled", seconds=CHUNK_TIMEOUT_SECONDS)
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_chunk(send: Send, chunk: bytes) -> None:
    async with asyncio.timeout(CHUNK_TIMEOUT_SECONDS):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
