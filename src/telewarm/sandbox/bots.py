"""Bots: any well-formed token is a bot, unless only declared bots count (facts 4.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from telewarm.sandbox.errors import ApiError, PlainError, unauthorized

MAX_BOT_ID = 1 << 54
_SECRET = re.compile(r"[A-Za-z0-9_-]{24,}")


@dataclass(slots=True)
class Bot:
    """A bot. `token` None: only its id is known."""

    id: int
    token: str | None = field(default=None, repr=False)
    username: str = ""
    first_name: str = ""
    declared: bool = False
    revoked: bool = False
    logged_out: bool = False

    def as_user(self) -> dict[str, object]:
        """Return the bot as a User object."""
        return {"id": self.id, "is_bot": True, "first_name": self.first_name, "username": self.username}


class Bots:
    """All bots."""

    def __init__(self) -> None:
        self._by_id: dict[int, Bot] = {}
        self._by_token: dict[str, Bot] = {}

    def get(self, bot_id: int) -> Bot | None:
        """Return a bot, if it is known."""
        return self._by_id.get(bot_id)

    def knows(self, token: str) -> bool:
        """Return whether the token is known."""
        return token in self._by_token

    def open(self, bot_id: int) -> Bot:
        """Return the bot with this id; create it if needed."""
        bot = self._by_id.get(bot_id)
        if bot is None:
            bot = Bot(id=bot_id, username=f"sandbox_{bot_id}_bot", first_name=f"Sandbox {bot_id}")
            self._by_id[bot_id] = bot
        return bot

    def authorise(self, token: str, *, declared_only: bool, local: bool) -> Bot:
        """Return the bot of a token. Raises ApiError."""
        bot = self._by_token.get(token)
        if bot is None:
            bot = self._admit(token, declared_only=declared_only, local=local)
        if bot.revoked:
            raise unauthorized()
        if bot.logged_out:
            raise PlainError(400, "Logged out")
        return bot

    def _admit(self, token: str, *, declared_only: bool, local: bool) -> Bot:
        bot_id, secret = split_token(token, local=local)
        if _SECRET.fullmatch(secret) is None:
            raise unauthorized()
        if declared_only and not self.open(bot_id).declared:
            raise unauthorized()
        bot = self.open(bot_id)
        if bot.token is not None and bot.token != token:
            raise unauthorized()  # the id is right, the secret is not
        bot.token = token
        self._by_token[token] = bot
        return bot

    def renew(self, bot_id: int) -> None:
        """Forget the token: the bot takes the next well-formed one."""
        bot = self.open(bot_id)
        if bot.token is not None:
            self._by_token.pop(bot.token, None)
        bot.token = None
        bot.revoked = False

    def clear(self) -> None:
        """Forget all bots."""
        self._by_id.clear()
        self._by_token.clear()


def split_token(token: str, *, local: bool) -> tuple[int, str]:
    """Split a token into bot id and secret.

    A malformed token is 404 on the hosted server, 401 or 421 on a local one.
    """
    number, colon, secret = token.partition(":")
    if colon and number.isascii() and not number.isdigit() and local:
        raise ApiError(421, "Misdirected Request: unallowed token specified")
    usable = colon and number.isascii() and number.isdigit() and not token.startswith("0") and len(token) <= 80
    if not usable or not 0 < int(number) < MAX_BOT_ID:
        raise ApiError(401, "invalid token specified") if local else ApiError(404, "Not Found")
    return int(number), secret
