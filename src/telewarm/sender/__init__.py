"""Send now: by file id when there is one, with the bytes when there is none yet."""

from telewarm.sender.cache import FileIdCache
from telewarm.sender.healing import FileIdRecovery
from telewarm.sender.ledger import ChatStatusWriter
from telewarm.sender.outgoing import OnCold, SendLimits, SendResult, SendResults
from telewarm.sender.sender import Sender

__all__ = [
    "ChatStatusWriter",
    "FileIdCache",
    "FileIdRecovery",
    "OnCold",
    "SendLimits",
    "SendResult",
    "SendResults",
    "Sender",
]
