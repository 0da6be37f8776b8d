"""What a single value must satisfy. Each check returns the value to keep or raises ValueError without repeating it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

EXAMPLE_KEY = "0123456789abcdef" * 4
EXAMPLE_TOKEN = "a-long-random-text-of-your-own"  # noqa: S105 (it is refused)


def split(url: str) -> SplitResult:
    """The parts of a URL, its port checked; the library's own words would quote pieces of a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = None
    if parts is None or "@" in f"{parts.path}{parts.query}{parts.fragment}" or not url.isascii() or " " in url:
        raise ValueError("is not a URL: special characters in it must be percent-encoded") from None
    return parts


def http_url(url: str) -> str:
    parts = split(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or a fragment")
    return url.rstrip("/")


def http_root(url: str) -> str:
    url = http_url(url)
    if urlsplit(url).path:
        raise ValueError("must be a server's root, without a path")
    return url


def database_url(url: str) -> str:
    parts = split(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ValueError("must begin with postgresql://")
    if parts.fragment:
        raise ValueError("has a '#' in it: special characters in the password must be percent-encoded")
    return url


def encryption_key(key: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", key):
        raise ValueError("must have exactly 64 hex digits")
    if key.lower() == EXAMPLE_KEY:
        raise ValueError("is the one of the documentation: make your own with `openssl rand -hex 32`")
    return key.lower()


def bearer_token(token: str) -> str:
    if len(token) < 16:
        raise ValueError("must have at least 16 characters")
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("must have neither spaces nor characters outside of ASCII, for it travels in a header")
    if token == EXAMPLE_TOKEN:
        raise ValueError("is the one of the documentation: make your own with `openssl rand -base64 24`")
    return token


def ports(text: object) -> object:
    """Of `8080, 8443`; what is no text is left as it is."""
    if not isinstance(text, str):
        return text
    numbers = [number.strip() for number in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,5}", number) and 0 < int(number) < 65_536 for number in numbers):
        raise ValueError("must be numbers of ports, 1 to 65535, with commas between them")
    return tuple(dict.fromkeys(int(number) for number in numbers))


def folder(path: Path) -> Path:
    """Absolute, so that it means the same wherever the process goes; `~` is the home."""
    return path.expanduser().absolute()
