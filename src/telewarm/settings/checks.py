"""Checks of single values. Each returns the value to use, or raises ValueError without repeating it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

GENERATE_COMMAND = "openssl rand -hex 32"  # for a token or a key
EXAMPLE_KEYS = frozenset({"0123456789abcdef" * 4})  # published as examples once
EXAMPLE_TOKENS = ("a-long-random-text", "a-long-random-text-of-your-own", "um-texto-longo-e-aleatorio")  # these too
MIN_DISTINCT_CHARACTERS = 6  # in a token
SEQUENTIAL_STEPS = frozenset({0, 1, -1})  # from one character to the next in `aaaa`, `4567` and `hgfe`
MAX_SEQUENTIAL_SHARE = 0.7  # of all characters of a token: of 16 random hex digits one in some millions has more
KEYBOARD_ROWS = ("qwerty", "asdfgh", "azerty")  # left parts of keyboard rows
PLACEHOLDER_PATTERN = re.compile(
    "(?:change|me|my|your|own|please|replace|insert|put|this|here|super|secret|password|senha|example|placeholder|todo"
    "|default|admin|api|auth|access|bearer|token|key|test|xxx|[^a-z])*"
)


def split_url(url: str) -> SplitResult:
    """Split a URL and check its port; the library's own error would quote pieces of a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = None
    if parts is None or "@" in f"{parts.path}{parts.query}{parts.fragment}" or not url.isascii() or " " in url:
        raise ValueError("is not a URL: special characters in it must be percent-encoded") from None
    return parts


def http_url(url: str) -> str:
    """Check an http or https URL."""
    parts = split_url(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or a fragment")
    return url.rstrip("/")


def api_root(url: str) -> str:
    """Check the URL of a Bot API server, which may have a path."""
    url = http_url(url)
    if re.search(r"/bot(?:[0-9][^/]*)?$", urlsplit(url).path):
        raise ValueError("must end before /bot and the token: bots are added with their tokens, not with the server")
    return url


def printable_ascii(text: str) -> str:
    """Check text for a header or a URL."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must have neither blanks nor characters outside of ASCII: copy it again")
    if text[0] in "\"'" or text[-1] in "\"'":
        raise ValueError("has quotes around it that belong to it here: leave them out")
    return text


def bucket(name: str) -> str:
    """Check a bucket's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", name):
        raise ValueError("must be a bucket's name alone: letters, digits, dots, hyphens and underscores")
    return name


def strip_whitespace(value: str) -> str:
    """Remove the whitespace that copying leaves."""
    return value.strip(" \t\r\n\v\f\u00a0\u200b\u200c\u200d\u2028\u2029\u2060\ufeff")


def encryption_key(key: str) -> str:
    """Check the encryption key."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", key):
        raise ValueError("must have exactly 64 hex digits")
    if key.lower() in EXAMPLE_KEYS or len(set(key.lower())) == 1:
        raise ValueError("is an example, or as easy to guess")
    return key.lower()


def bearer_token(token: str) -> str:
    """Check the API token."""
    if len(token) < 16:
        raise ValueError("must have at least 16 characters")
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("must have neither spaces nor characters outside of ASCII, for it travels in a header")
    if _letters_of(token) in map(_letters_of, EXAMPLE_TOKENS) or is_easy_to_guess(token):
        raise ValueError("is an example, or as easy to guess")
    return token


def _letters_of(token: str) -> str:
    """Return the letters in lower case, without what stands between them."""
    return re.sub("[^a-z]", "", token.lower())


def is_easy_to_guess(token: str) -> bool:
    """Return whether a token was not drawn at random.

    Signs are few different characters, a repeated piece, a row of the alphabet or the keyboard, words like "token".
    """
    low = token.lower()
    steps = sum(ord(after) - ord(before) in SEQUENTIAL_STEPS for before, after in pairwise(low))
    return (
        len(set(low)) < MIN_DISTINCT_CHARACTERS
        or steps > MAX_SEQUENTIAL_SHARE * len(low)
        or any(low[size:] == low[:-size] for size in range(1, len(low) // 2 + 1))
        or any(row in low for row in KEYBOARD_ROWS)
        or (_letters_of(low) != "" and PLACEHOLDER_PATTERN.fullmatch(low) is not None)
    )


def ports(text: object) -> object:
    """Parse `8080, 8443`; other types are returned unchanged."""
    if not isinstance(text, str):
        return text
    numbers = [number.strip() for number in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,5}", number) and 0 < int(number) < 65_536 for number in numbers):
        raise ValueError("must be numbers of ports, 1 to 65535, with commas between them")
    return tuple(dict.fromkeys(int(number) for number in numbers))


def folder(path: Path) -> Path:
    """Return an absolute path, independent of the current folder; `~` is the home folder."""
    return path.expanduser().absolute()
