"""What goes first in the warm-up queue. Pure: nothing here reads a clock.

An item's place is the moment it was asked for plus a handicap; the earliest goes first. So the order never changes
while items wait, which is what keeps a claim cheap, and yet they age: an item with handicap `h` goes before everything
that is asked for later than `h` after it, whatever that is by size. Nothing starves.

All in milliseconds of the database's clock, which adds the moment itself: hosts' clocks differ.
"""

from __future__ import annotations

SECOND = 1000
HOUR = 3600 * SECOND
DAY = 24 * HOUR

EXPLICIT = -HOUR  # asked for by name: before all that has waited less than an hour
INTERACTIVE = EXPLICIT - DAY  # somebody waits in a send: before all that has waited less than a day
RENEWAL = DAY  # one of many warmed anew, and sent by its old file id meanwhile: it can wait

SMALL = 100_000  # bytes
DOUBLING = 30 * SECOND  # for each doubling above SMALL: a 50 MB file waits 4.5 minutes for smaller ones, 2 GB 7.5


def priority_offset(size: int) -> int:
    """Of a queued item of `size` bytes: small before large."""
    return DOUBLING * (size // SMALL).bit_length()


def renewal_priority_offset(size: int) -> int:
    """Of an item that has a file id already."""
    return RENEWAL + priority_offset(size)
