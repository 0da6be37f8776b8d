"""Broadcasts: one message set to many chats. Made and steered here, sent by the bots' lanes."""

from telewarm.broadcast.broadcasts import Broadcasts
from telewarm.broadcast.loading import Loaded
from telewarm.broadcast.recipients import Format
from telewarm.database.recipients import Rejected

__all__ = ["Broadcasts", "Format", "Loaded", "Rejected"]
