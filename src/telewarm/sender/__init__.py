"""Send now: by file id when there is one, with the bytes when there is none yet."""

from telewarm.sender.cache import FileIds
from telewarm.sender.sender import OnCold, Sender, SendLimits, SendResult

__all__ = ["FileIds", "OnCold", "SendLimits", "SendResult", "Sender"]
