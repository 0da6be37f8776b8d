"""Errors in Telegram's words (facts 3.2 and 4.5), and failures of a connection."""

from __future__ import annotations

from http import HTTPStatus

PREFIXES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 500: "Internal Server Error"}


class ApiError(Exception):
    """A response with ok=false. `text`: the description without its prefix."""

    def __init__(self, code: int, text: str, **parameters: int) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.parameters = parameters

    @property
    def description(self) -> str:
        """The whole description."""
        prefix = PREFIXES.get(self.code)
        if prefix is None:
            return self.text or HTTPStatus(self.code).phrase
        return f"{prefix}: {uncapitalise(self.text)}" if self.text else prefix


class PlainError(ApiError):
    """An error whose text is the whole description."""

    @property
    def description(self) -> str:
        """The whole description."""
        return self.text


class ConnectionFault(Exception):
    """The connection is reset instead of a response."""


class RawAnswer(Exception):
    """A response that does not come from the Bot API server, such as a proxy's page."""

    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.content_type = content_type


def uncapitalise(text: str) -> str:
    """Lower the first letter: `Wrong…` becomes `wrong…`; `PHOTO_INVALID…` stays."""
    if len(text) > 1 and (text[1].isupper() or text[1] == "_"):
        return text
    return text[:1].lower() + text[1:]


def bad(text: str) -> ApiError:
    """Create a 400."""
    return ApiError(400, text)


def forbidden(text: str) -> ApiError:
    """Create a 403."""
    return ApiError(403, text)


def too_many_requests(retry_after: int) -> ApiError:
    """Create a 429."""
    return ApiError(429, f"Too Many Requests: retry after {retry_after}", retry_after=retry_after)


def unauthorized() -> ApiError:
    """Create a 401."""
    return ApiError(401, "")


def too_big(size: int, limit: int, what: str) -> ApiError:
    """Create a 413. `what`: `photo`, `video note`, `thumbnail`, or empty for any file."""
    suffix = f" for a {what}" if what else ""
    return bad(f"file of size {size} bytes is too big{suffix}; the maximum size is {limit} bytes")
