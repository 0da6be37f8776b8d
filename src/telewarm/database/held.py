"""Rows that this process holds, for finding forgotten ones."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from telewarm import clock


class HeldRows:
    """Ids of held rows of one table."""

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._claims_started_at: dict[object, float] = {}  # under way, and when they began
        self._first_missed_at: dict[int, float] = {}

    @property
    def ids(self) -> frozenset[int]:
        """Ids of the held rows."""
        return frozenset(self._ids)

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Enclose the claim statement and the `add` of its rows."""
        claim = object()
        self._claims_started_at[claim] = clock.monotonic()
        try:
            yield
        finally:
            del self._claims_started_at[claim]

    def add(self, ids: Iterable[int]) -> None:
        """Add claimed rows."""
        self._ids.update(ids)

    def discard(self, ids: Iterable[int]) -> None:
        """Remove rows that this process no longer works on, whatever the database says."""
        self._ids.difference_update(ids)

    def find_forgotten(self, leased_ids: Collection[int], *, held_before: frozenset[int], now: float) -> list[int]:
        """Return rows that are leased by this process and held by nobody in it.

        `held_before`: `ids` before the query, which was made at `now`. A row counts when it was found twice, and no
        claim in progress may still return it.
        """
        found = set(leased_ids) - held_before - self._ids
        oldest_claim = min(self._claims_started_at.values(), default=math.inf)
        seen = {one: self._first_missed_at.get(one, now) for one in found}
        forgotten = sorted(one for one, since in seen.items() if since < min(now, oldest_claim))
        self._first_missed_at = {one: since for one, since in seen.items() if one not in forgotten}
        return forgotten
