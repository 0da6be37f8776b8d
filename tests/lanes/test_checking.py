"""What a look at a bot's chat means: pure."""

from __future__ import annotations

import pytest

from telewarm.bots.health_check import _status_from_chat_error, assess
from telewarm.errors import ChatUnreachable, FloodWait, TelegramError, TelegramUnreachable
from telewarm.models import ChatId, Kind
from telewarm.telegram.values import Chat, ChatMember, ChatPermissions

ALL = ChatPermissions()
NOTHING = ChatPermissions(may_send=False, refused=tuple(Kind))


def chat(kind: str, *, rights: ChatPermissions = ALL, protected: bool = False) -> Chat:
    return Chat(chat_id=ChatId(-1), type=kind, name="Warm-up", protected=protected, permissions=rights)


def member(status: str, *, may_post: bool | None = None, rights: ChatPermissions = ALL) -> ChatMember:
    return ChatMember(status=status, may_post=may_post, permissions=rights)


@pytest.mark.parametrize(
    ("where", "who", "ok", "words"),
    [
        (chat("channel"), member("administrator", may_post=True), True, None),
        (chat("channel"), member("administrator", may_post=False), False, "right to post messages"),
        (chat("channel"), member("administrator"), True, None),
        (chat("channel"), member("member"), False, "right to post messages"),
        (chat("channel"), member("left"), False, "left"),
        (chat("supergroup"), member("kicked"), False, "kicked"),
        (chat("supergroup", rights=NOTHING), member("administrator"), True, None),
        (chat("supergroup", rights=NOTHING), member("member"), False, "let it send messages"),
        (chat("group", rights=ChatPermissions(refused=(Kind.VIDEO,))), member("member"), False, "video"),
        (chat("group", rights=NOTHING), member("restricted", rights=ChatPermissions()), True, None),
        (chat("group"), member("restricted", rights=NOTHING), False, "let it send messages"),
        (chat("supergroup", protected=True), member("member"), True, "forwarded"),
        (chat("private"), None, True, "blocked"),
    ],
)
def test_a_chat_is_judged_by_what_the_bot_may_do_there(
    *, where: Chat, who: ChatMember | None, ok: bool, words: str | None
) -> None:
    found = assess(where, who)
    assert found.result.ok is ok
    assert (found.result.message is None) if words is None else (words in (found.result.message or ""))


@pytest.mark.parametrize(
    ("error", "ok", "words"),
    [
        (
            ChatUnreachable(method="getChat", status=400, description="chat not found", reason="not_found"),
            False,
            "-100",
        ),
        (
            ChatUnreachable(method="getChat", status=400, description="TOPIC_CLOSED", reason="topic_closed"),
            False,
            "open the topic",
        ),
        (FloodWait(method="getChat", status=429, description="wait", retry_after=3), None, "later"),
        (TelegramUnreachable("no answer", method="getChat", effect_possible=False), None, "later"),
        (TelegramError("strange", method="getChat"), False, "correct the id"),
    ],
)
def test_what_passes_is_no_fault_of_the_chat(*, error: TelegramError, ok: bool | None, words: str) -> None:
    judged = _status_from_chat_error(error)
    assert (judged.ok, judged.code) == (ok, error.code)
    assert words in (judged.message or "")
