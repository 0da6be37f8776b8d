"""From a name to addresses that were looked at, and no other way to a connection.

A name is resolved once for each connection, all its addresses are judged, and the connection goes to one of exactly
these. Whatever finds a way around that is judged again when the socket is made, by the address that it is made for;
before aiohttp 3.12, which lets nobody else make its sockets, just before.
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

if TYPE_CHECKING:  # younger than the oldest aiohttp that will do
    from aiohttp import AddrInfoType
    from aiohttp.abc import ResolveResult
    from aiohttp.tracing import Trace

MAX_CONCURRENT_LOOKUPS: Final = 2  # names looked up at once: the threads that do it are few, and others need them too

Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[Address]]]


class SystemResolver:
    """The system's resolver. A lookup that nobody waits for any more keeps its place until it has ended."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_LOOKUPS)

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Raises OSError."""
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
    def __init__(self, lookup: Lookup, is_allowed: IsAllowed) -> None:
        self._lookup = lookup
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Whatever family is asked for. Raises UrlNotAllowed when one address is private, whatever the others are."""
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
        pass


def validating_connector(is_allowed: IsAllowed, **options: Any) -> aiohttp.TCPConnector:  # noqa: ANN401 - the connector's own
    """A connector that makes sockets for allowed addresses alone."""
    if "socket_factory" in inspect.signature(aiohttp.TCPConnector).parameters:
        return aiohttp.TCPConnector(socket_factory=validating_socket_factory(is_allowed), **options)
    return ValidatingConnector(is_allowed, **options)


class ValidatingConnector(aiohttp.TCPConnector):
    """Judges what sockets will be made for, addresses that are no names included."""

    def __init__(self, is_allowed: IsAllowed, **options: Any) -> None:  # noqa: ANN401 - the connector's own
        super().__init__(**options)
        self._is_allowed = is_allowed

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Trace] | None = None) -> list[ResolveResult]:
        found = await super()._resolve_host(host, port, traces)
        for one in found:
            _check_address(one["host"], self._is_allowed)
        return found


def is_unresolved(error: aiohttp.ClientConnectorError) -> bool:
    """Whether the host's name has no address."""
    return isinstance(error, getattr(aiohttp, "ClientConnectorDNSError", ())) or isinstance(
        error.os_error, socket.gaierror
    )


def validating_socket_factory(is_allowed: IsAllowed) -> Callable[[AddrInfoType], socket.socket]:
    """Makes the sockets, for allowed addresses alone."""

    def make(to: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, sockaddr = to
        _check_address(sockaddr[0], is_allowed)
        return socket.socket(family, kind, protocol)

    return make


def _check_address(host: object, is_allowed: IsAllowed) -> None:
    """Raises UrlNotAllowed for what is no address, or none that is allowed."""
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
