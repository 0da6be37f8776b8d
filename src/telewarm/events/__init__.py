"""What happens in all processes, for whoever listens here: one connection and one read for all of them."""

from telewarm.events.batches import Chunk, shown
from telewarm.events.events import EVERYTHING, Events
from telewarm.events.wanted import Wanted, wanted_types

__all__ = ["EVERYTHING", "Chunk", "Events", "Wanted", "shown", "wanted_types"]
