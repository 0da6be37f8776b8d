"""Memory budget of request bodies, over all requests of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from telewarm.api.concurrency_limiter import retry_after_seconds
from telewarm.api.error_responses import HttpError

MAX_BODY_MEMORY_BYTES = 128 << 20  # a usual body has less than a kilobyte
MAX_CONCURRENT_DECODES = 2  # large JSON bodies that are decoded at once; the others wait on disk


@dataclass(slots=True)
class BodyMemory:
    """Memory that one request's body uses."""

    budget: BodyMemoryBudget
    bytes: int = 0

    def reserve(self, count: int) -> None:
        """Reserve memory. Raises HttpError 503 when all bodies together would exceed the budget."""
        if self.budget.used_bytes + count > self.budget.max_bytes:
            again = retry_after_seconds()
            raise HttpError(
                503,
                "OVERLOADED",
                "the bodies of all requests together fill the memory that is set aside for them; nothing was done: "
                f"ask again in {again} s, or send the file as multipart or raw",
                headers={"Retry-After": str(again)},
            )
        self.budget.used_bytes += count
        self.bytes += count

    def release(self) -> None:
        """Release all memory of the request."""
        self.budget.used_bytes -= self.bytes
        self.bytes = 0


@dataclass(slots=True)
class BodyMemoryBudget:
    """Budget of one process, and the semaphore for decoding bodies from disk."""

    max_bytes: int = MAX_BODY_MEMORY_BYTES
    used_bytes: int = 0
    decode_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_DECODES))

    @contextmanager
    def for_request(self) -> Iterator[BodyMemory]:
        """Account for one request while the block runs."""
        held = BodyMemory(self)
        try:
            yield held
        finally:
            held.release()


def body_memory_of(request: Request) -> BodyMemoryBudget:
    """Return the budget of the application."""
    return cast(BodyMemoryBudget, request.app.state.bodies)
