"""Which proxy calls to Telegram go through: TELEWARM_PROXY, or what the machine has for all programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from telewarm.settings.checks import split

DIRECT = "direct"
HTTP = ("http", "https")


def proxy_url(given: str) -> str:
    """Of TELEWARM_PROXY. Raises ValueError, without a word of the value."""
    if given.lower() in {DIRECT, "none", "off"}:
        return DIRECT
    url = given if "://" in given else f"http://{given}"
    parts = split(url)
    if parts.scheme.startswith("socks"):
        raise ValueError(
            "is a SOCKS proxy, which Telewarm does not speak: give an HTTP proxy (most SOCKS programs offer one too),"
            f" or {DIRECT} for none"
        )
    if parts.scheme not in HTTP or not parts.hostname:
        raise ValueError(f"must be a proxy such as http://user:password@host:3128, or {DIRECT}")
    return url.rstrip("/")


def proxy_for(root: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The name of the variable that holds for this server, and the proxy; None: it is called directly."""
    parts = urlsplit(root)
    if _excepted(parts.netloc.rpartition("@")[2], environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        for spelt in (name, name.upper()):
            if proxy := environ.get(spelt, "").strip():
                return spelt, proxy
    return None


def _excepted(netloc: str, no_proxy: str) -> bool:
    """Whether NO_PROXY has the host: by name, as a part of a domain, with its port, or by a network's range."""
    netloc = netloc.lower()
    host = netloc.rpartition(":")[0] if netloc.rpartition(":")[2].isdecimal() else netloc
    names = [name.strip().lower().removeprefix("*").lstrip(".") for name in no_proxy.split(",") if name.strip()]
    if "*" in {name.strip() for name in no_proxy.split(",")}:
        return True
    return any(name in {host, netloc} or host.endswith(f".{name}") or _within(host, name) for name in names)


def _within(host: str, network: str) -> bool:
    try:
        return ip_address(host.strip("[]")) in ip_network(network, strict=False)
    except ValueError:
        return False
