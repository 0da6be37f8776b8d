"""What a single value must satisfy. Each check returns the value to keep or raises ValueError without repeating it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

GENERATE_COMMAND = "openssl rand -hex 32"  # a token or a key
EXAMPLE_KEYS = frozenset({"0123456789abcdef" * 4})  # once published as examples
EXAMPLE_TOKENS = ("a-long-random-text", "a-long-random-text-of-your-own", "um-texto-longo-e-aleatorio")  # these too
MIN_DISTINCT_CHARACTERS = 6  # different ones in a token
SEQUENTIAL_STEPS = frozenset({0, 1, -1})  # from one character to the next in `aaaa`, `4567` and `hgfe`
MAX_SEQUENTIAL_SHARE = 0.6  # of all characters of a token
KEYBOARD_ROWS = ("qwerty", "asdfgh", "azerty")  # of keyboards
PLACEHOLDER_PATTERN = re.compile(
    "(?:change|me|my|your|own|please|replace|insert|put|this|here|super|secret|password|senha|example|placeholder|todo"
    "|default|admin|api|auth|access|bearer|token|key|test|xxx|[^a-z])*"
)


def split_url(url: str) -> SplitResult:
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
    parts = split_url(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or a fragment")
    return url.rstrip("/")


def api_root(url: str) -> str:
    """Of a Bot API server, which may be below a path."""
    url = http_url(url)
    if re.search(r"/bot(?:[0-9][^/]*)?$", urlsplit(url).path):
        raise ValueError("must end before /bot and the token: bots are added with their tokens, not with the server")
    return url


def printable_ascii(text: str) -> str:
    """Of what travels in a header or a URL."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must have neither blanks nor characters outside of ASCII: copy it again")
    if text[0] in "\"'" or text[-1] in "\"'":
        raise ValueError("has quotes around it that belong to it here: leave them out")
    return text


def bucket(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", name):
        raise ValueError("must be a bucket's name alone: letters, digits, dots, hyphens and underscores")
    return name


def strip_whitespace(value: str) -> str:
    """Without the blanks and line ends that copying leaves around it."""
    return value.strip(" \t\r\n\v\f\u00a0\u200b\u200c\u200d\u2028\u2029\u2060\ufeff")


def encryption_key(key: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", key):
        raise ValueError("must have exactly 64 hex digits")
    if key.lower() in EXAMPLE_KEYS or len(set(key.lower())) == 1:
        raise ValueError("is an example, or as easy to guess")
    return key.lower()


def bearer_token(token: str) -> str:
    if len(token) < 16:
        raise ValueError("must have at least 16 characters")
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("must have neither spaces nor characters outside of ASCII, for it travels in a header")
    if _letters_of(token) in map(_letters_of, EXAMPLE_TOKENS) or is_easy_to_guess(token):
        raise ValueError("is an example, or as easy to guess")
    return token


def _letters_of(token: str) -> str:
    """In lower case, whatever stands between them."""
    return re.sub("[^a-z]", "", token.lower())


def is_easy_to_guess(token: str) -> bool:
    """What nobody drew at random: few characters, one piece repeated, a row of the alphabet or the keyboard, words
    that stand for a token.
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
