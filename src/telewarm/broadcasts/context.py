"""Context that the broadcasts of one bot share, and the runs that this process has claimed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from telewarm.bots.sessions import BotSession
from telewarm.database.connection import Pool
from telewarm.database.leases import ProcessLease
from telewarm.flood_control.fair_share import FairShareAllocator
from telewarm.models import BroadcastId
from telewarm.sending.sender import Sender


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastContext:
    """`concurrency`: recipients of one broadcast in flight."""

    pool: Pool
    lease: ProcessLease
    session: BotSession
    sender: Sender
    shares: FairShareAllocator
    concurrency: int


def is_sending(lease: ProcessLease) -> bool:
    """Return whether this process is sending or undoing any broadcast."""
    return bool(lease.broadcast_runs.ids)


@contextmanager
def claim_locally(lease: ProcessLease, broadcast_id: BroadcastId) -> Iterator[bool]:
    """Claim a run within this process; yields whether it was free. The database tells only processes apart."""
    held = lease.broadcast_runs
    if broadcast_id in held.ids:
        yield False
        return
    held.add([broadcast_id])
    try:
        yield True
    finally:
        held.discard([broadcast_id])
