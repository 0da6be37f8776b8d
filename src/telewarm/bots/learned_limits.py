"""Storage format of learned rate limits: with the settings under which they were learned. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from telewarm.flood_control.limits import BotLimits


def with_settings(learned: Mapping[str, float], limits: BotLimits) -> dict[str, float]:
    """Return the learned limits together with the settings that they depend on."""
    settings = {
        f"{kind} {word}": value
        for kind, limit in limits.by_kind.items()
        if kind in learned
        for word, value in (("burst", limit.burst), ("seconds", limit.seconds))
    }
    return {**learned, **settings}


def plausible_limits(learned: Mapping[str, float], limits: BotLimits) -> dict[str, float]:
    """Return the limits that were learned under the present settings; others are outdated."""
    return {
        kind: learned[kind]
        for kind, limit in limits.by_kind.items()
        if kind in learned
        and (learned.get(f"{kind} burst"), learned.get(f"{kind} seconds")) == (limit.burst, limit.seconds)
    }
