"""Media out: a blob's bytes or its thumbnail, for people to look at; and who may, by a signed URL."""

from telewarm.previews.previews import Previews
from telewarm.previews.shown import Shown
from telewarm.previews.signing import LONGEST, Signer, Ticket, Variant

__all__ = ["LONGEST", "Previews", "Shown", "Signer", "Ticket", "Variant"]
