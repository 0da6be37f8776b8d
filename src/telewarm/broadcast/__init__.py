"""Broadcasts: one message set to many chats. Made and steered here, sent by the bots' lanes."""

from telewarm.broadcast.broadcasts import BroadcastService
from telewarm.broadcast.loading import ImportResult
from telewarm.broadcast.plans import SendPlan
from telewarm.broadcast.recipients import ListFormat
from telewarm.broadcast.submissions import AlreadySent, Submissions, Submitted
from telewarm.database.recipients import RejectedRow

__all__ = [
    "AlreadySent",
    "BroadcastService",
    "ImportResult",
    "ListFormat",
    "RejectedRow",
    "SendPlan",
    "Submissions",
    "Submitted",
]
