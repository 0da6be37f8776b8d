"""URL policy. Pure. Addresses of names are checked when they are resolved."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from yarl import URL

from telewarm.errors import UrlNotAllowed
from telewarm.fetch.addresses import Address, is_allowed

MAX_URL_CHARACTERS: Final = 4096  # characters
DEFAULT_PORTS: Final = frozenset({80, 443})
HOST_PATTERN: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)
NUMERIC_LABEL_PATTERN: Final = re.compile(
    r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE
)  # last labels of IPv4 addresses in other notations
ALLOW_PRIVATE_CURE: Final = (
    "; or set TELEWARM_FETCH_PRIVATE=true, where all who may add media may reach the private network too"
)
INVALID_URL_ERRORS: Final = (ValueError, IndexError)  # yarl's, the second for `http://[]@`

IsAllowed: TypeAlias = Callable[[Address], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class UrlPolicy:
    """`private`: private addresses are allowed too. `ports`: in addition to 80 and 443."""

    private: bool = False
    ports: frozenset[int] = frozenset()

    def allow(self, address: Address) -> bool:
        """Return whether the address is allowed."""
        return is_allowed(address, allow_private=self.private)


def check_url(text: str, ports: frozenset[int], is_allowed: IsAllowed) -> URL:
    """Return the URL to request. Raises UrlNotAllowed, which does not repeat it: it may hold secrets."""
    if len(text) > MAX_URL_CHARACTERS or any(char <= " " or char == "\x7f" for char in text):
        raise UrlNotAllowed(
            f"a URL has at most {MAX_URL_CHARACTERS} characters, and no blanks or control characters: encode them"
        )
    try:
        url = URL(text, encoded=text.isascii())  # a signature covers the URL as it is written
        port, host, authority = url.port, url.raw_host or "", url.raw_authority
    except INVALID_URL_ERRORS:
        raise UrlNotAllowed("this is not a URL: give one such as https://example.org/film.mp4") from None
    if url.scheme not in {"http", "https"}:
        raise UrlNotAllowed("files are fetched by http:// and https:// alone: give such a URL")
    if "@" in authority:
        raise UrlNotAllowed(
            "a URL with a user or a password is not followed: give one without, or upload the file itself"
        )
    if port not in DEFAULT_PORTS | ports:
        raise UrlNotAllowed(
            "Only ports 80 and 443 are allowed: give such a URL, or name the port in TELEWARM_FETCH_PORTS"
        )
    _check_host(host, is_allowed, is_ipv6=authority.startswith("["))
    return url.with_fragment(None)


def resolve_redirect(text: str, from_: URL, ports: frozenset[int], is_allowed: IsAllowed) -> URL:
    """Return the target of a redirect, checked like the first URL. Raises UrlNotAllowed."""
    try:
        target = str(from_.join(URL(text, encoded=text.isascii())))
    except INVALID_URL_ERRORS:
        raise UrlNotAllowed("the server redirects to what is no URL: upload the file itself") from None
    url = check_url(target, ports, is_allowed)
    if from_.scheme == "https" and url.scheme == "http":
        raise UrlNotAllowed(
            "the server redirects from https:// to http://, where anybody on the way could change the file: give the "
            "http:// URL itself if that is meant"
        )
    return url


def private_address_error(address: Address) -> UrlNotAllowed:
    """Create the error without the address, which may belong to a network that the caller cannot see."""
    cure = ALLOW_PRIVATE_CURE if is_allowed(address, allow_private=True) else ""
    return UrlNotAllowed(
        "this URL leads to a private address, and files are added from public ones alone: upload the file itself" + cure
    )


def _check_host(host: str, is_allowed: IsAllowed, *, is_ipv6: bool) -> None:
    """Check the host. Addresses in other than the plain notation (`2130706433`) are refused."""
    is_address = is_ipv6 or NUMERIC_LABEL_PATTERN.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None
    if not is_address:
        if len(host) > 253 or HOST_PATTERN.fullmatch(host) is None:
            raise UrlNotAllowed("the host of this URL is no name: give one such as https://example.org/film.mp4")
        return
    try:
        address = IPv6Address(host) if is_ipv6 else IPv4Address(host)
    except ValueError:
        raise UrlNotAllowed(
            "the host of this URL is no address in its usual form: write it as such, or by name"
        ) from None
    if not is_allowed(address):
        raise private_address_error(address)
