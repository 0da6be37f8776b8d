"""The only door to the Bot API: methods, answers, flood limits, the HTTP client."""

from telewarm.telegram.client import BotApi
from telewarm.telegram.effect import Effect, effect_of, maybe_delivered
from telewarm.telegram.files import FileIdRef, FileUpload, LocalPathRef, UrlRef
from telewarm.telegram.flood import BotRateLimiter, FloodPause, Permit
from telewarm.telegram.limits import BotLimits, RateLimit, SameSizeSpacing
from telewarm.telegram.ranks import Priority
from telewarm.telegram.transport import Transport
from telewarm.telegram.values import GroupItem, SendOptions

__all__ = [
    "BotApi",
    "BotLimits",
    "BotRateLimiter",
    "Effect",
    "FileIdRef",
    "FileUpload",
    "FloodPause",
    "GroupItem",
    "LocalPathRef",
    "Permit",
    "Priority",
    "RateLimit",
    "SameSizeSpacing",
    "SendOptions",
    "Transport",
    "UrlRef",
    "effect_of",
    "maybe_delivered",
]
