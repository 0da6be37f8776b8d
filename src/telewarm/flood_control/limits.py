"""Telegram's flood limits as values. Source: Telegram's Bot FAQ, and measurements."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_SLACK_SHARE, MAX_SLACK_SECONDS = 0.01, 0.1  # share of a window, and seconds: our clock is not the server's


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """At most `burst` messages in any `burst / rate` seconds. A refilled token bucket would allow twice as many."""

    rate: float
    burst: int

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.burst >= 1):
            raise ValueError(f"a limit lets something go: a rate above 0 and a burst of 1 or more, not {self}")

    @property
    def seconds(self) -> float:
        """Length of the window in seconds, as the server counts."""
        return self.burst / self.rate

    @property
    def slack(self) -> float:
        """Seconds that we add to the window for safety."""
        return min(WINDOW_SLACK_SHARE * self.seconds, MAX_SLACK_SECONDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class SameSizeSpacing:
    """Spacing of uploads with one size above `above`: bytes * `seconds_per_byte`, within the two bounds."""

    above_bytes: int = 100_000  # bytes
    seconds_per_byte: float = 1e-7  # seconds
    min_seconds: float = 0.2  # seconds
    max_seconds: float = 0.9  # seconds

    def seconds(self, size: int) -> float:
        """Return the seconds between two uploads of this size."""
        return min(max(size * self.seconds_per_byte, self.min_seconds), self.max_seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class BotLimits:
    """Limits of one bot; None: no limit. A 429 is obeyed in any case. A `--local` server does not space equal sizes."""

    bot: RateLimit | None = RateLimit(rate=30, burst=30)
    private_chat: RateLimit | None = RateLimit(rate=1, burst=3)
    group: RateLimit | None = RateLimit(rate=20 / 60, burst=20)  # groups, and channels for want of a published number
    group_second: RateLimit | None = RateLimit(
        rate=1, burst=3
    )  # in addition: about one a second in one chat, with short bursts
    same_size: SameSizeSpacing | None = SameSizeSpacing()

    @classmethod
    def none(cls) -> BotLimits:
        """Return limits that limit nothing."""
        return cls(bot=None, private_chat=None, group=None, group_second=None, same_size=None)

    @property
    def by_kind(self) -> dict[str, RateLimit]:
        """The limits that are set, by kind of window."""
        kinds = {
            "bot": self.bot, "private": self.private_chat, "group": self.group, "group_second": self.group_second,
        }  # fmt: skip
        return {kind: limit for kind, limit in kinds.items() if limit is not None}
