"""Addresses that a foreign URL may lead to. Pure.

The networks are IANA's registries of special-purpose addresses, written out: what Python's `ipaddress` calls global
changed between versions, and ignores multicast, translation and cloud services.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

SPECIAL_IPV4_NETWORKS: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
GLOBAL_IPV6_NETWORK: Final = IPv6Network("2000::/3")  # all other IPv6 networks are special
SPECIAL_IPV6_NETWORKS: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, Teredo among them: an unchecked IPv4 address inside
        "2001:db8::/32",
        "2002::/16",  # 6to4: an unchecked IPv4 address inside
        "3fff::/20",
    )
)
NAT64_NETWORK: Final = IPv6Network("64:ff9b::/96")  # what a resolver makes of IPv4 where there is IPv6 alone (NAT64)
PRIVATE_IPV4_NETWORKS: Final = tuple(
    IPv4Network(network)
    for network in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
PRIVATE_IPV6_NETWORKS: Final = (IPv6Network("::1/128"), IPv6Network("fc00::/7"))
CLOUD_METADATA_ADDRESSES: Final = frozenset(  # metadata services of cloud machines, beside 169.254.0.0/16
    (
        IPv4Address("100.100.100.200"),
        IPv4Address("168.63.129.16"),
        IPv6Address("fd00:ec2::254"),
        IPv6Address("fd20:ce::254"),
    )
)


def is_allowed(address: Address, *, allow_private: bool) -> bool:
    """Return whether a fetch may connect. `allow_private`: also private and local addresses, never cloud metadata."""
    return is_public(address) or (allow_private and _is_intranet(address))


def is_public(address: Address) -> bool:
    """Return whether the address is that of a machine on the internet: not private, local, multicast or a tunnel."""
    plain = _embedded_ipv4(address)
    if plain in CLOUD_METADATA_ADDRESSES:
        return False
    if isinstance(plain, IPv4Address):
        return not any(plain in network for network in SPECIAL_IPV4_NETWORKS)
    return (
        plain in GLOBAL_IPV6_NETWORK
        and plain.scope_id is None
        and not any(plain in network for network in SPECIAL_IPV6_NETWORKS)
    )


def _is_intranet(address: Address) -> bool:
    plain = _embedded_ipv4(address)
    networks = PRIVATE_IPV4_NETWORKS if isinstance(plain, IPv4Address) else PRIVATE_IPV6_NETWORKS
    return plain not in CLOUD_METADATA_ADDRESSES and any(plain in network for network in networks)


def _embedded_ipv4(address: Address) -> Address:
    """Return the IPv4 address inside, if packets to this one come out there; else the address."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64_NETWORK else address
