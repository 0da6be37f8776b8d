"""One call of a method: bot, parameters as Telegram reads them, and state."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from telewarm.sandbox.bots import Bot
from telewarm.sandbox.errors import bad
from telewarm.sandbox.uploads import Upload

if TYPE_CHECKING:
    from telewarm.sandbox.state import State

_INTEGER = re.compile(r"\s*(-?\d{1,19})")
_TRUE = frozenset({"true", "yes", "1"})


@dataclass(slots=True)
class Call:
    """`method`: in lower case. An empty parameter counts as absent."""

    state: State
    bot: Bot
    method: str
    params: dict[str, str]
    files: dict[str, Upload]

    def text(self, name: str) -> str:
        """Return a text parameter, empty if absent."""
        return self.params.get(name, "")

    def required(self, name: str) -> str:
        """Return a required text parameter."""
        value = self.params.get(name, "")
        if not value:
            raise bad(f'parameter "{name}" is required')
        return value

    def integer(self, name: str, low: int = -(1 << 63), high: int = (1 << 63) - 1) -> int:
        """Return an integer parameter within bounds."""
        return clamped(self.params.get(name, ""), low, high)

    def flag(self, name: str) -> bool:
        """Return a boolean parameter."""
        return self.params.get(name, "").strip().lower() in _TRUE


def clamped(text: str, low: int, high: int) -> int:
    """Return an integer, read leniently: garbage is 0."""
    found = _INTEGER.match(text)
    return max(low, min(high, int(found[1]) if found else 0))
