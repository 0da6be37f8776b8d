"""Resolver and connector that allow only checked addresses.

A name is resolved once for each connection, all its addresses are checked, and the connection goes to exactly one of
these. Any other path is checked again when the socket is made, by its address; before aiohttp 3.12, which has no socket
factory, just before that.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver

from telewarm.errors import UrlNotAllowed
from telewarm.fetch.addresses import Address
from telewarm.fetch.urls import IsAllowed, private_address_error

if TYPE_CHECKING:  # newer than the oldest supported aiohttp
    from aiohttp import AddrInfoType
    from aiohttp.abc import ResolveResult
    from aiohttp.tracing import Trace

MAX_CONCURRENT_LOOKUPS: Final = 2  # concurrent lookups: their threads are few, and others need them too

Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[Address]]]


class SystemResolver:
    """The system's resolver. An abandoned lookup keeps its slot until it ends."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_LOOKUPS)

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Resolve a name. Raises OSError."""
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        looking: asyncio.Future[Any] = asyncio.ensure_future(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        looking.add_done_callback(self._on_done)
        return [ip_address(sockaddr[0]) for *_, sockaddr in await asyncio.shield(looking)]

    def _on_done(self, looking: asyncio.Future[Any]) -> None:
        self._slots.release()
        if not looking.cancelled():
            looking.exception()


class ValidatingResolver(AbstractResolver):
    """Resolver for aiohttp that checks addresses."""

    def __init__(self, lookup: Lookup, is_allowed: IsAllowed) -> None:
        self._lookup = lookup
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve for every family. Raises UrlNotAllowed when one address is private, whatever the others are."""
        del family
        try:
            found = await self._lookup(host, port)
        except OSError as error:
            raise socket.gaierror(socket.EAI_NONAME, "no address") from error
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        for address in found:
            if not self._is_allowed(address):
                raise private_address_error(address)
        return [_resolve_result(host, address, port) for address in dict.fromkeys(found)]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def validating_connector(is_allowed: IsAllowed, **options: Any) -> aiohttp.TCPConnector:  # noqa: ANN401 - the connector's own
    """Return a connector that makes sockets for allowed addresses only."""
    if "socket_factory" in inspect.signature(aiohttp.TCPConnector).parameters:
        return aiohttp.TCPConnector(socket_factory=validating_socket_factory(is_allowed), **options)
    return ValidatingConnector(is_allowed, **options)


class ValidatingConnector(aiohttp.TCPConnector):
    """Connector that checks the addresses of its sockets, also those given as IP addresses."""

    def __init__(self, is_allowed: IsAllowed, **options: Any) -> None:  # noqa: ANN401 - the connector's own
        super().__init__(**options)
        self._is_allowed = is_allowed

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Trace] | None = None) -> list[ResolveResult]:
        found = await super()._resolve_host(host, port, traces)
        for one in found:
            _check_address(one["host"], self._is_allowed)
        return found


def is_unresolved(error: aiohttp.ClientConnectorError) -> bool:
    """Return whether the host's name has no address."""
    return isinstance(error, getattr(aiohttp, "ClientConnectorDNSError", ())) or isinstance(
        error.os_error, socket.gaierror
    )


def validating_socket_factory(is_allowed: IsAllowed) -> Callable[[AddrInfoType], socket.socket]:
    """Return a socket factory for allowed addresses only."""

    def make(to: AddrInfoType) -> socket.socket:
        """Make a socket."""
        family, kind, protocol, _, sockaddr = to
        _check_address(sockaddr[0], is_allowed)
        return socket.socket(family, kind, protocol)

    return make


def _check_address(host: object, is_allowed: IsAllowed) -> None:
    """Raise UrlNotAllowed for an address that is malformed or not allowed."""
    try:
        address = ip_address(str(host))
    except ValueError:
        raise UrlNotAllowed("this URL leads to no address") from None
    if not is_allowed(address):
        raise private_address_error(address)


def _resolve_result(host: str, address: Address, port: int) -> ResolveResult:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return {
        "hostname": host,
        "host": str(address),
        "port": port,
        "family": family,
        "proto": 0,
        "flags": socket.AI_NUMERICHOST,
    }
