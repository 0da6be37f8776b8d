"""The only door to the Bot API: methods, answers, flood limits, the HTTP client."""

from telewarm.telegram.client import BotApi
from telewarm.telegram.effect import Effect, effect_of, may_have_gone
from telewarm.telegram.files import ById, ByPath, ByUrl, Upload
from telewarm.telegram.flood import Closed, Passage, Traffic
from telewarm.telegram.limits import Limit, Limits, Spacing
from telewarm.telegram.ranks import Rank
from telewarm.telegram.transport import Transport
from telewarm.telegram.values import GroupItem, SendOptions

__all__ = [
    "BotApi",
    "ById",
    "ByPath",
    "ByUrl",
    "Closed",
    "Effect",
    "GroupItem",
    "Limit",
    "Limits",
    "Passage",
    "Rank",
    "SendOptions",
    "Spacing",
    "Traffic",
    "Transport",
    "Upload",
    "effect_of",
    "may_have_gone",
]
