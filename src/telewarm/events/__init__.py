"""What happens in all processes, for whoever listens here: one connection and one read for all of them."""

from telewarm.events.batches import EventSlice, shown
from telewarm.events.events import EVERYTHING, EventBus
from telewarm.events.wanted import EventFilter, wanted_types

__all__ = ["EVERYTHING", "EventBus", "EventFilter", "EventSlice", "shown", "wanted_types"]
