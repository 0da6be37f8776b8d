"""Metadata in a file's bytes, read from the stream: magic numbers and small headers, without decoding.

What headers do not tell is 0 or empty: a damaged image passes.
"""

from telewarm.sandbox.sniff.detect import Sniffer
from telewarm.sandbox.sniff.facts import Facts

__all__ = ["Facts", "Sniffer"]
