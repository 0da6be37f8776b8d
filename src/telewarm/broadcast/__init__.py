"""Broadcasts: one message set to many chats. Made and steered here, sent by the bots' lanes."""

from telewarm.broadcast.broadcasts import Broadcasts
from telewarm.broadcast.loading import Loaded
from telewarm.broadcast.plans import Plan
from telewarm.broadcast.recipients import Format
from telewarm.broadcast.submissions import AlreadySent, Submissions, Submitted
from telewarm.database.recipients import Rejected

__all__ = ["AlreadySent", "Broadcasts", "Format", "Loaded", "Plan", "Rejected", "Submissions", "Submitted"]
