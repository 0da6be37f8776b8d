"""Listening sockets, and errors that say why an address cannot be listened on."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from telewarm.errors import UsageError

LISTEN_CURES = {
    errno.EADDRINUSE: "Port {port} is already in use. Stop that program or choose another --port",
    errno.EACCES: "Port {port} needs root, as all ports below 1024. Choose another --port",
    errno.EADDRNOTAVAIL: "This machine does not have the address {host}. Choose another --host",
}


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind the addresses of a host, before anything else is started. Port 0: a free one. Raises UsageError."""
    taken: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            one = socket.socket(family, socket.SOCK_STREAM)
            taken.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], port or port_of(taken), *address[2:]))
    except OSError as error:
        close_sockets(taken)
        raise listen_error(error, host, port=port) from error
    return taken


@contextmanager
def explain_listen_error(host: str, port: int) -> Iterator[None]:
    """Turn the error of an address that cannot be listened on into UsageError."""
    try:
        yield
    except OSError as error:
        if error.errno not in LISTEN_CURES:
            raise
        raise listen_error(error, host, port=port) from error


def listen_error(error: OSError, host: str, *, port: int) -> UsageError:
    """Return the error that says why an address cannot be listened on, and the cure."""
    cure = LISTEN_CURES.get(error.errno or 0, "Cannot listen on {host}, port {port}: {reason}. Check --host and --port")
    return UsageError(cure.format(host=host, port=port, reason=error.strerror or error))


def port_of(sockets: Sequence[socket.socket]) -> int:
    """The port of the first one, 0 before it is bound."""
    return int(sockets[0].getsockname()[1])


def close_sockets(sockets: Sequence[socket.socket]) -> None:
    """Close all of them."""
    for one in sockets:
        one.close()
