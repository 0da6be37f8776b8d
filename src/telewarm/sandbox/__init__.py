"""A Bot API server of our own for the demo, the tests and the benchmarks. It imports nothing else of Telewarm.

It follows what Telegram's server is known to do: file ids in the real format, kinds decided by bytes, error texts and
their order, floods, and the ways a connection fails. Bodies stream through; files are hashed and counted, not held.
"""

from telewarm.sandbox.config import Config, Floods, Limit, Network
from telewarm.sandbox.faults import Rule
from telewarm.sandbox.server import Sandbox

__all__ = ["Config", "Floods", "Limit", "Network", "Rule", "Sandbox"]
