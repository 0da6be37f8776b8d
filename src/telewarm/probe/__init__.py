"""What a media file is, by its bytes; what Telegram allows; its thumbnail. The only door to media decoders."""

from telewarm.probe.names import filename_for
from telewarm.probe.probe import Probe
from telewarm.probe.rules import check, natural_kind, wants_thumbnail

__all__ = ["Probe", "check", "filename_for", "natural_kind", "wants_thumbnail"]
