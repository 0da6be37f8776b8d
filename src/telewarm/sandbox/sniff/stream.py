"""Parsers as generators over a stream: they request bytes to read or to skip."""

from __future__ import annotations

from collections.abc import Generator

Parser = Generator[int, bytes, None]  # yields n > 0: give me n bytes; n < 0: skip -n bytes


class Reader:
    """Source of a parser's bytes. `left`: bytes that were read ahead."""

    def __init__(self) -> None:
        self._left = b""

    def take(self, size: int) -> Generator[int, bytes, bytes]:
        """Read bytes."""
        if len(self._left) < size:
            self._left += yield size - len(self._left)
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def peek(self, size: int) -> Generator[int, bytes, bytes]:
        """Read bytes without consuming them."""
        taken = yield from self.take(size)
        self._left = taken + self._left
        return taken

    def skip(self, size: int) -> Generator[int, bytes, None]:
        """Skip bytes."""
        ahead = min(size, len(self._left))
        self._left = self._left[ahead:]
        if size > ahead:
            yield ahead - size


class Driver:
    """Feeds a parser chunk by chunk; holds only the requested bytes."""

    def __init__(self, parser: Parser) -> None:
        self._parser: Parser | None = parser
        self._pending = bytearray()
        self._wanted = 0
        self._step(None)

    def feed(self, data: bytes) -> None:
        """Receive a piece."""
        at = 0
        while self._parser is not None and at < len(data):
            if self._wanted < 0:
                skipped = min(-self._wanted, len(data) - at)
                at += skipped
                self._wanted += skipped
                if self._wanted == 0:
                    self._step(b"")
                continue
            part = data[at : at + self._wanted - len(self._pending)]
            at += len(part)
            self._pending += part
            if len(self._pending) == self._wanted:
                got, self._pending = bytes(self._pending), bytearray()
                self._step(got)

    def close(self) -> None:
        """End the stream."""
        if self._parser is not None:
            self._parser.close()
            self._parser = None
        self._pending = bytearray()

    def _step(self, data: bytes | None) -> None:
        if self._parser is None:
            return
        try:
            self._wanted = next(self._parser) if data is None else self._parser.send(data)
        except StopIteration:
            self._parser = None
