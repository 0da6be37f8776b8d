"""Send now: by file id when there is one, with the bytes when there is none yet."""

from telewarm.sender.cache import FileIds
from telewarm.sender.healing import Healing
from telewarm.sender.ledger import Ledger
from telewarm.sender.outgoing import OnCold, SendLimits, SendResult, SendResults
from telewarm.sender.sender import Sender

__all__ = ["FileIds", "Healing", "Ledger", "OnCold", "SendLimits", "SendResult", "SendResults", "Sender"]
