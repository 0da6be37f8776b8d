"""Priority in the warm-up queue. Pure: nothing here reads a clock.

An item's priority is the time of its request plus an offset; the earliest goes first. So the order never changes while
items wait, which keeps a claim cheap, and yet they age: an item with offset `h` goes before everything that is
requested more than `h` later, whatever its size. Nothing starves.

All in milliseconds of the database's clock, which adds the time itself: hosts' clocks differ.
"""

from __future__ import annotations

SECOND_MS = 1000
HOUR_MS = 3600 * SECOND_MS
DAY_MS = 24 * HOUR_MS

EXPLICIT_OFFSET_MS = -HOUR_MS  # asked for by name: before all that has waited less than an hour
INTERACTIVE_OFFSET_MS = (
    EXPLICIT_OFFSET_MS - DAY_MS
)  # somebody waits in a send: before all that has waited less than a day
RENEWAL_OFFSET_MS = DAY_MS  # one of many warmed again, and sent by its old file id meanwhile: it can wait

SMALL_BYTES = 100_000  # bytes
OFFSET_PER_DOUBLING_MS = (
    30 * SECOND_MS
)  # for each doubling above SMALL: a 50 MB file waits 4.5 minutes for smaller ones, 2 GB 7.5


def priority_offset(size: int) -> int:
    """Return the offset of a new item of `size` bytes: small before large."""
    return OFFSET_PER_DOUBLING_MS * (size // SMALL_BYTES).bit_length()


def renewal_priority_offset(size: int) -> int:
    """Return the offset of an item that has a file id already."""
    return RENEWAL_OFFSET_MS + priority_offset(size)
