"""Injected faults: rules that match a call and say what fails, before or after its effect."""

from __future__ import annotations

import hashlib
import struct
from typing import Literal

import msgspec

from telewarm.sandbox.errors import ApiError, ConnectionFault, PlainError, RawAnswer, too_many_requests

GATEWAY_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class Rule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which calls fail and how. Unset conditions match every call.

    action: `error` answers `code` with `description` as the whole text, or else in the usual words, a 429 with
    `retry_after`; `html` is a proxy's page with status `code`; `reset` breaks the connection; `hang` answers `seconds`
    late, or never if that is 0. The call is counted either way.
    """

    action: Literal["error", "html", "reset", "hang"]
    when: Literal["before", "after"] = "before"
    method: str | None = None  # in any case
    bot: int | None = None
    chat: int | None = None
    code: int = 500
    description: str = ""
    retry_after: int | None = None
    seconds: float = 0.0
    skip: int = 0  # let the first matching calls pass
    count: int | None = 1  # how many calls fail; None: all
    probability: float = 1.0
    seed: int = 0
    during_upload: int | None = None  # with `reset` before: break once so many bytes of the body have come
    seen: int = 0
    hit: int = 0

    def matches(self, method: str, bot: int, chat: int | None) -> bool:
        """Return whether the rule matches a call."""
        named = self.method is None or self.method.lower() == method
        return named and self.bot in {None, bot} and self.chat in {None, chat}

    def strikes(self) -> bool:
        """Count a matching call. Returns whether the rule applies to it."""
        self.seen += 1
        if self.seen <= self.skip or self.spent or dice(self.seed, self.seen) >= self.probability:
            return False
        self.hit += 1
        return True

    @property
    def spent(self) -> bool:
        """Whether the rule has been used up."""
        return self.count is not None and self.hit >= self.count

    def failure(self) -> Exception:
        """Return the exception of a rule other than `hang`."""
        match self.action:
            case "html":
                return RawAnswer(self.code, GATEWAY_PAGE, "text/html")
            case "error":
                parameters = {} if self.retry_after is None else {"retry_after": self.retry_after}
                if self.description:
                    return PlainError(self.code, self.description, **parameters)
                if self.retry_after is not None:
                    return too_many_requests(self.retry_after)
                return ApiError(self.code, "")
            case "reset" | "hang":
                return ConnectionFault()


class Faults:
    """All rules."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def add(self, rule: Rule) -> Rule:
        """Add a rule."""
        self.rules.append(rule)
        return rule

    def strike(self, method: str, bot: int, chat: int | None) -> Rule | None:
        """Return the first rule that applies to this call. `method`: in lower case."""
        for rule in self.rules:
            if rule.during_upload is None and rule.matches(method, bot, chat) and rule.strikes():
                return rule
        return None

    def break_at(self, method: str, bot: int) -> int | None:
        """Return after how many bytes of its body the connection breaks; None: never."""
        for rule in self.rules:
            if rule.during_upload is not None and rule.matches(method, bot, None) and rule.strikes():
                return rule.during_upload
        return None

    def clear(self) -> None:
        """Remove all rules."""
        self.rules.clear()


def dice(seed: int, throw: int) -> float:
    """Return the same number from 0 to 1 for the same seed and throw."""
    digest = hashlib.blake2b(struct.pack("<qq", seed, throw), digest_size=8).digest()
    return int.from_bytes(digest, "little") / (1 << 64)
