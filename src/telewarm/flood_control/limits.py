"""Telegram's flood limits as values. Source: telegram-facts.md, sections 3.1 to 3.4."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_SLACK_SHARE, MAX_SLACK_SECONDS = 0.01, 0.1  # share of a window, and seconds: our clock is not the server's


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """At most `burst` messages in any `burst / rate` seconds; a refilled bucket would let twice as many go."""

    rate: float
    burst: int

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.burst >= 1):
            raise ValueError(f"a limit lets something go: a rate above 0 and a burst of 1 or more, not {self}")

    @property
    def seconds(self) -> float:
        """The window, as the server counts it."""
        return self.burst / self.rate

    @property
    def slack(self) -> float:
        """Seconds that we wait longer than the window."""
        return min(WINDOW_SLACK_SHARE * self.seconds, MAX_SLACK_SECONDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class SameSizeSpacing:
    """Uploads of one byte total above `above` come at least bytes * `per_byte` seconds apart, within the two bounds."""

    above: int = 100_000  # bytes
    per_byte: float = 1e-7  # seconds
    shortest: float = 0.2  # seconds
    longest: float = 0.9  # seconds

    def seconds(self, size: int) -> float:
        return min(max(size * self.per_byte, self.shortest), self.longest)


@dataclass(frozen=True, kw_only=True, slots=True)
class BotLimits:
    """None is no limit; a 429 is obeyed all the same. A server started with `--local` does not space equal sizes."""

    bot: RateLimit | None = RateLimit(rate=30, burst=30)
    private_chat: RateLimit | None = RateLimit(rate=1, burst=3)
    group: RateLimit | None = RateLimit(rate=20 / 60, burst=20)  # groups, and channels for want of a published number
    group_second: RateLimit | None = RateLimit(
        rate=1, burst=3
    )  # beside it: about one a second in one chat, with short bursts
    same_size: SameSizeSpacing | None = SameSizeSpacing()

    @classmethod
    def none(cls) -> BotLimits:
        return cls(bot=None, private_chat=None, group=None, group_second=None, same_size=None)

    @property
    def by_kind(self) -> dict[str, RateLimit]:
        """The windows there are."""
        kinds = {
            "bot": self.bot, "private": self.private_chat, "group": self.group, "group_second": self.group_second,
        }  # fmt: skip
        return {kind: limit for kind, limit in kinds.items() if limit is not None}
