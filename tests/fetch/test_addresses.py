"""Which addresses are some machine's on the internet: a table, and what holds for every address there is."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.fetch.addresses import Address, is_allowed, is_public

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "149.154.167.220", "172.15.0.1",
    "172.32.0.1", "192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255",
    "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:200::1", "2003::1",
    "::ffff:1.1.1.1", "64:ff9b::101:101",
]  # fmt: skip
NEVER = [
    "0.0.0.0",  # noqa: S104 - nothing is bound
    "0.1.2.3", "169.254.0.1", "169.254.169.254", "192.0.0.8", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "100.100.100.200", "168.63.129.16",
    "::", "::2", "::7f00:1", "::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b:1::1", "64:ff9b::a9fe:a9fe", "100::1",
    "2001::1", "2001:0:7f00:1::", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
    "3fff::1", "5f00::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254",
    "2606:4700:4700::1111%1",
]  # fmt: skip
INTRANET = [
    "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.1.2.3", "172.16.0.1",
    "172.31.255.255", "192.168.0.1", "::1", "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_allowed(text: str) -> None:
    assert is_public(ip_address(text))
    assert is_allowed(ip_address(text), allow_private=False)


@pytest.mark.parametrize("text", NEVER)
def test_what_is_no_machine_or_a_clouds_own_is_allowed_never(text: str) -> None:
    assert not is_allowed(ip_address(text), allow_private=False)
    assert not is_allowed(ip_address(text), allow_private=True)


@pytest.mark.parametrize("text", INTRANET)
def test_an_intranet_is_allowed_where_the_setting_says_so(text: str) -> None:
    assert not is_allowed(ip_address(text), allow_private=False)
    assert is_allowed(ip_address(text), allow_private=True)


v4 = st.ip_addresses(v=4)
v6 = st.one_of(st.ip_addresses(v=6), st.ip_addresses(network="2000::/12"), st.ip_addresses(network="::/64"))


@given(st.one_of(v4, v6))
def test_what_python_knows_to_be_special_is_never_public(address: Address) -> None:
    special = (
        not address.is_global,
        address.is_multicast,
        address.is_reserved and address not in IPv6Network("64:ff9b::/96"),
        address.is_unspecified,
        address.is_loopback,
        address.is_link_local,
    )
    if any(special) and getattr(address, "ipv4_mapped", None) is None:
        assert not is_public(address)


@given(v4)
def test_an_ipv4_address_in_ipv6_clothes_is_judged_by_itself_or_refused(address: IPv4Address) -> None:
    packed = int(address)
    for mapped in (IPv6Address(0xFFFF << 32 | packed), IPv6Address(0x64FF9B << 96 | packed)):
        assert is_public(mapped) == is_public(address)
        assert is_allowed(mapped, allow_private=True) == is_allowed(address, allow_private=True)
    for tunnel in (0x2002 << 112 | packed << 80, 0x20010000 << 96 | packed, packed, 0xFFFF << 48 | packed):
        assert not is_allowed(IPv6Address(tunnel), allow_private=True) or IPv6Address(tunnel) == IPv6Address("::1")


@given(st.one_of(v4, v6))
def test_the_setting_adds_intranets_alone(address: Address) -> None:
    if is_allowed(address, allow_private=True) and not is_allowed(address, allow_private=False):
        plain = getattr(address, "ipv4_mapped", None) or address
        if plain in IPv6Network("64:ff9b::/96"):
            plain = IPv4Address(int(plain) & 0xFFFFFFFF)
        assert plain.is_private or plain in ip_network("100.64.0.0/10")
        assert not plain.is_link_local
