"""May a failed call have put a message into the chat? One rule for senders, broadcasts and warm-ups."""

from __future__ import annotations

import pytest

from telewarm.errors import (
    BadRequest,
    DatabaseUnavailable,
    FloodWait,
    TelegramClientError,
    TelegramServerError,
    TelegramUnreachable,
    TelewarmError,
)
from telewarm.telegram.effect import Effect, effect_of, maybe_delivered

SENDING = "sendMessage"


def fault(status: int, words: str = "Internal Server Error", method: str = SENDING) -> TelegramServerError:
    return TelegramServerError(method=method, status=status, description=words)


@pytest.mark.parametrize("method", ["sendMessage", "sendPhoto", "sendMediaGroup", "forwardMessage", "copyMessage"])
@pytest.mark.parametrize(
    "error",
    [
        (500, "Internal Server Error: restart"),
        (500, "Internal Server Error: Request aborted"),
        (500, "Internal Server Error"),
        (502, "Bad Gateway"),
        (503, "HTTP 503, not a Bot API answer; check TELEGRAM_API_ROOT"),
        (504, "Gateway Timeout"),
        (520, "HTTP 520, not a Bot API answer; check TELEGRAM_API_ROOT"),
    ],
)
def test_no_5xx_proves_that_nothing_went(error: tuple[int, str], method: str) -> None:
    assert effect_of(fault(*error, method)) is Effect.POSSIBLE


@pytest.mark.parametrize("method", ["getMe", "getFile", "deleteMessages"])
def test_a_method_that_sends_nothing_has_sent_nothing(method: str) -> None:
    assert not maybe_delivered(fault(500, "Internal Server Error: restart", method))


@pytest.mark.parametrize(
    ("error", "effect"),
    [
        (
            fault(500, "Internal Server Error: sent message was immediately deleted and can't be returned"),
            Effect.CERTAIN,
        ),
        (TelegramClientError(method="send photo", status=200, description="the answer holds no file"), Effect.CERTAIN),
        (TelegramUnreachable("no answer", method=SENDING, effect_possible=True), Effect.POSSIBLE),
        (TelegramUnreachable("no connection", method=SENDING, effect_possible=False), Effect.NONE),
        (fault(403, "HTTP 403, not a Bot API answer"), Effect.NONE),
        (FloodWait(method=SENDING, status=500, description="retry after 5", retry_after=5), Effect.NONE),
        (BadRequest(method=SENDING, status=400, description="Bad Request: no"), Effect.NONE),
        (DatabaseUnavailable("away"), Effect.NONE),
    ],
)
def test_what_each_answer_says_of_its_effect(error: TelewarmError, effect: Effect) -> None:
    assert effect_of(error) is effect
