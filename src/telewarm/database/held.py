"""Rows that this process holds, to find those that it has forgotten."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from telewarm import clock


class HeldRows:
    """Rows of one table, by id."""

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._claims_started_at: dict[object, float] = {}  # under way, and when they began
        self._first_missed_at: dict[int, float] = {}

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(self._ids)

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Around the statement that takes rows in hand and the `add` of what it took."""
        claim = object()
        self._claims_started_at[claim] = clock.monotonic()
        try:
            yield
        finally:
            del self._claims_started_at[claim]

    def add(self, ids: Iterable[int]) -> None:
        self._ids.update(ids)

    def discard(self, ids: Iterable[int]) -> None:
        """Nobody here works on them any more, whatever the database says."""
        self._ids.difference_update(ids)

    def find_forgotten(self, leased_ids: Collection[int], *, held_before: frozenset[int], now: float) -> list[int]:
        """Which of the rows that the database says are in hand are in nobody's.

        `held_before`: `ids` before the database was asked, at `now`. A row counts when it was found twice, and no claim
        that may still bring it is under way.
        """
        found = set(leased_ids) - held_before - self._ids
        oldest_claim = min(self._claims_started_at.values(), default=math.inf)
        seen = {one: self._first_missed_at.get(one, now) for one in found}
        forgotten = sorted(one for one, since in seen.items() if since < min(now, oldest_claim))
        self._first_missed_at = {one: since for one, since in seen.items() if one not in forgotten}
        return forgotten
