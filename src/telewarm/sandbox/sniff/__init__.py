"""What a file's bytes say of it, read while they stream by: magic numbers and small headers, never a decode.

What cannot be known from headers is left at 0 or empty: an image that is damaged further in still passes.
"""

from telewarm.sandbox.sniff.detect import Sniffer
from telewarm.sandbox.sniff.facts import Facts

__all__ = ["Facts", "Sniffer"]
