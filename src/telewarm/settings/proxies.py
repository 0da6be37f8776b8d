"""Proxy for calls to Telegram: TELEWARM_PROXY, or the system's variables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from telewarm.settings.checks import split_url

DIRECT_VALUE = "direct"
PROXY_SCHEMES = ("http", "https")


def proxy_url(text: str) -> str:
    """Check TELEWARM_PROXY. Raises ValueError without repeating it."""
    if text.lower() in {DIRECT_VALUE, "none", "off"}:
        return DIRECT_VALUE
    url = text if "://" in text else f"http://{text}"
    parts = split_url(url)
    if parts.scheme.startswith("socks"):
        raise ValueError(
            "is a SOCKS proxy, which Telewarm does not speak: give an HTTP proxy (most SOCKS programs offer one too),"
            f" or {DIRECT_VALUE} for none"
        )
    if parts.scheme not in PROXY_SCHEMES or not parts.hostname:
        raise ValueError(f"must be a proxy such as http://user:password@host:3128, or {DIRECT_VALUE}")
    return url.rstrip("/")


def proxy_for(root: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable that applies to this server, and its proxy; None: no proxy."""
    parts = urlsplit(root)
    if _is_excepted(parts.netloc.rpartition("@")[2], environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        for spelt in (name, name.upper()):
            if proxy := environ.get(spelt, "").strip():
                return spelt, proxy
    return None


def _is_excepted(netloc: str, no_proxy: str) -> bool:
    """Return whether NO_PROXY covers the host: by name, domain, port or network range."""
    netloc = netloc.lower()
    host = netloc.rpartition(":")[0] if netloc.rpartition(":")[2].isdecimal() else netloc
    names = [name.strip().lower().removeprefix("*").lstrip(".") for name in no_proxy.split(",") if name.strip()]
    if "*" in {name.strip() for name in no_proxy.split(",")}:
        return True
    return any(name in {host, netloc} or host.endswith(f".{name}") or _is_in_network(host, name) for name in names)


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host.strip("[]")) in ip_network(network, strict=False)
    except ValueError:
        return False
