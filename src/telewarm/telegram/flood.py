"""When may a bot speak next? Telegram's flood limits as pure decisions: the time is always an argument.

A *scope* is what a limit counts: a bot, one chat, uploads of one size. It holds the times of its last messages, a rate
learned from Telegram's answers, and a deadline before which nothing goes. A message belongs to several scopes and waits
for the last.

Times are seconds of one monotonic clock, rates are messages a second. Source: telegram-facts.md, sections 3.1 to 3.4.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from telewarm.model import ChatId

K = TypeVar("K")
SLOWEST = 0.1  # a learned rate never falls below this share of its limit
BACK_OFF = 0.5  # what a flood wait leaves of the rate
RECOVERY = 0.02  # the share of the limit that each message without a flood wait gives back
SLACK, MOST_SLACK = 0.05, 0.25  # share of a window, and seconds: not every call is equally long on its way
SWEEP = 256  # scopes kept before the first look for idle ones
OVERLOAD = 60.0  # seconds; the `retry_after` with which a Bot API server names its own backlog


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """At most `burst` messages in any `burst / rate` seconds; a refilled bucket would let twice as many go."""

    rate: float
    burst: int

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.burst >= 1):
            raise ValueError(f"a limit lets something go: a rate above 0 and a burst of 1 or more, not {self}")

    def window(self, rate: float) -> float:
        """Seconds in which `burst` messages may go at a rate that may have been lowered."""
        exact = self.burst / rate
        return exact + min(SLACK * exact, MOST_SLACK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spacing:
    """Uploads of one byte total above `above` come at least bytes * `per_byte` seconds apart, within the two bounds."""

    above: int = 100_000  # bytes
    per_byte: float = 1e-7  # seconds
    shortest: float = 0.2  # seconds
    longest: float = 0.9  # seconds

    def seconds(self, size: int) -> float:
        return min(max(size * self.per_byte, self.shortest), self.longest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """None is no limit; a 429 is obeyed all the same. A server started with `--local` does not space equal sizes."""

    bot: Limit | None = Limit(rate=30, burst=30)
    private_chat: Limit | None = Limit(rate=1, burst=3)
    group: Limit | None = Limit(rate=20 / 60, burst=20)  # groups, and channels for want of a published number
    same_size: Spacing | None = Spacing()

    @classmethod
    def none(cls) -> Limits:
        return cls(bot=None, private_chat=None, group=None, same_size=None)

    def chat(self, chat_id: ChatId) -> Limit | None:
        return self.private_chat if chat_id > 0 else self.group


class Scope:
    """One counted thing. Never sleeps, never reads a clock."""

    def __init__(self, limit: Limit | None, *, now: float) -> None:
        self.limit = limit
        self.rate = 0.0 if limit is None else limit.rate
        self.closed_until = now
        self.flooded_until = now  # as far as a 429 closed it
        self._sent: deque[float] = deque(maxlen=0 if limit is None else limit.burst)

    def opens_at(self, now: float, *, count: int = 1) -> float:
        """The first time, `now` or later, at which `count` more messages may go."""
        opens = max(now, self.closed_until)
        if self.limit is None:
            return opens
        in_the_way = len(self._sent) + min(count, self.limit.burst) - self.limit.burst
        if in_the_way > 0:
            opens = max(opens, self._sent[in_the_way - 1] + self.limit.window(self.rate))
        if self.rate < self.limit.rate and self._sent:
            opens = max(opens, self._sent[-1] + 1 / self.rate)
        return opens

    def spend(self, now: float, *, count: int = 1) -> None:
        """Count messages. Call it when they go, not when they are planned."""
        if self.limit is None:
            return
        self._sent.extend([now] * min(count, self.limit.burst))
        self.rate = min(self.limit.rate, self.rate + count * RECOVERY * self.limit.rate)

    def close(self, now: float, retry_after: float) -> None:
        """Obey a 429. Deadlines only move forward, so a late answer never reopens a scope.

        Calls in flight bring the same news several times: only the first lowers the rate. Until it has recovered,
        messages go one by one, and not in the burst that a pause would otherwise have earned.
        """
        news = now >= self.flooded_until
        self.flooded_until = max(self.flooded_until, now + retry_after)
        self.close_until(self.flooded_until)
        if self.limit is not None and news:
            self.rate = max(SLOWEST * self.limit.rate, BACK_OFF * self.rate)

    def close_until(self, until: float) -> None:
        """Pause without blame: the rate stays."""
        self.closed_until = max(self.closed_until, until)

    def idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing but a rate learned long ago."""
        if now < self.closed_until:
            return False
        return self.limit is None or not self._sent or self._sent[-1] + self.limit.window(self.rate) <= now


class Scopes(Generic[K]):
    """Scopes by what they count. The idle ones are forgotten: a million chats need no more than the busy few."""

    def __init__(self) -> None:
        self._scopes: dict[K, Scope] = {}
        self._sweep_at = SWEEP

    def __len__(self) -> int:
        return len(self._scopes)

    def opens_at(self, key: K, now: float, *, count: int = 1) -> float:
        scope = self._scopes.get(key)
        return now if scope is None else scope.opens_at(now, count=count)

    def get(self, key: K, limit: Limit | None, *, now: float) -> Scope:
        scope = self._scopes.get(key)
        if scope is None:
            self._forget_idle(now)
            scope = self._scopes[key] = Scope(limit, now=now)
        return scope

    def others_flooded(self, key: K, now: float) -> bool:
        return any(scope.flooded_until > now for other, scope in self._scopes.items() if other != key)

    def _forget_idle(self, now: float) -> None:
        """When there are twice as many as the last look left: a constant price for each."""
        if len(self._scopes) < self._sweep_at:
            return
        self._scopes = {key: scope for key, scope in self._scopes.items() if not scope.idle(now)}
        self._sweep_at = max(SWEEP, 2 * len(self._scopes))


class Traffic:
    """All scopes of one bot."""

    def __init__(self, limits: Limits, *, now: float) -> None:
        self._limits = limits
        self._bot = Scope(limits.bot, now=now)
        self._chats: Scopes[ChatId] = Scopes()
        self._sizes: Scopes[int] = Scopes()

    def __len__(self) -> int:
        """Scopes held in memory."""
        return 1 + len(self._chats) + len(self._sizes)

    def bot_opens_at(self, now: float) -> float:
        """Before this nothing goes, whatever the chat."""
        return self._bot.opens_at(now)

    def opens_at(self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float) -> float:
        """The first time, `now` or later, for a message to this chat.

        `size`: file bytes that it uploads in all. `count`: 1, or the items of a group of media.
        """
        opens = max(self._bot.opens_at(now, count=count), self._chats.opens_at(chat_id, now, count=count))
        return max(opens, self._sizes.opens_at(size, now)) if self._spacing(size) else opens

    def spend(self, chat_id: ChatId, *, size: int = 0, count: int = 1, now: float) -> None:
        """Count a message as it goes."""
        self._bot.spend(now, count=count)
        if (limit := self._limits.chat(chat_id)) is not None:
            self._chats.get(chat_id, limit, now=now).spend(now, count=count)
        if spacing := self._spacing(size):
            self._sizes.get(size, None, now=now).close_until(now + spacing.seconds(size))

    def close(self, retry_after: float, chat_id: ChatId | None, *, size: int = 0, now: float) -> None:
        """Obey a 429, which does not say what it is about.

        It is taken to be about the chat; about the size, for a spaced upload that is asked to wait a minute; about
        the bot, when there was no chat or another chat (or size) is closed at the same time.
        """
        if chat_id is None:
            self._bot.close(now, retry_after)
        elif self._spacing(size) and retry_after == OVERLOAD:
            self._close_one(self._sizes, size, None, now=now, retry_after=retry_after)
        else:
            self._close_one(self._chats, chat_id, self._limits.chat(chat_id), now=now, retry_after=retry_after)

    def close_bot(self, until: float) -> None:
        """Pause the whole bot, as another process or a person asked."""
        self._bot.close_until(until)

    def _close_one(self, scopes: Scopes[K], key: K, limit: Limit | None, *, now: float, retry_after: float) -> None:
        scopes.get(key, limit, now=now).close(now, retry_after)
        if scopes.others_flooded(key, now):
            self._bot.close(now, retry_after)

    def _spacing(self, size: int) -> Spacing | None:
        spacing = self._limits.same_size
        return spacing if spacing is not None and size > spacing.above else None
