"""Telewarm keeps a Telegram bot's media warm: upload once, send by file_id forever."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telewarm.app import Telewarm
    from telewarm.broadcast import AlreadySent, Plan, Submitted
    from telewarm.model import BroadcastState, Event, EventType, Kind, MessageSet, Outcome, Part
    from telewarm.sender import OnCold, SendResult
    from telewarm.sender.escape import Safe, escape_html, escape_markdown, html, markdown
    from telewarm.settings import Settings

__version__ = "0.1.0"
__all__ = [
    "AlreadySent",
    "BroadcastState",
    "Event",
    "EventType",
    "Kind",
    "MessageSet",
    "OnCold",
    "Outcome",
    "Part",
    "Plan",
    "Safe",
    "SendResult",
    "Settings",
    "Submitted",
    "Telewarm",
    "escape_html",
    "escape_markdown",
    "html",
    "markdown",
]

_HOMES = {
    "telewarm.app": ("Telewarm",),
    "telewarm.broadcast": ("AlreadySent", "Plan", "Submitted"),
    "telewarm.model": ("BroadcastState", "Event", "EventType", "Kind", "MessageSet", "Outcome", "Part"),
    "telewarm.sender": ("OnCold", "SendResult"),
    "telewarm.sender.escape": ("Safe", "escape_html", "escape_markdown", "html", "markdown"),
    "telewarm.settings": ("Settings",),
}


def __getattr__(name: str) -> object:
    """What programs need, imported when it is asked for: `import telewarm` alone costs nothing."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'telewarm' has no attribute {name!r}")
