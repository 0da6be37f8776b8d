"""Whatever a program gives to the library by mistake is a UsageError that names the argument, and does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from math import nan
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from aiogram.types import InlineKeyboardButton as AiogramButton

from telegram import InlineKeyboardButton
from telewarm import ChatId, MessageSet, Part, SendPlan, Telewarm, UsageError
from telewarm.sandbox import Sandbox
from tests.fixtures.app import READER, add_bot
from tests.fixtures.media import jpeg

NOT_TEXT = (5, 5.5, True, b"x", ["x"], {"a": 1}, object())
NOT_A_FLAG: tuple[object, ...] = ("yes", "", 1, 0, None, [], object())
NOT_SECONDS = ("5", True, -1, float("nan"), [1], object())
NOT_A_NUMBER = ("5", 5.5, True, [5], object())

FIELDS: list[tuple[type[MessageSet | Part], str, tuple[object, ...]]] = [
    *[(MessageSet, name, NOT_TEXT) for name in ("text", "parse_mode", "effect")],
    *[(Part, name, NOT_TEXT) for name in ("caption", "parse_mode")],
    *[(Part, name, NOT_A_FLAG) for name in ("has_spoiler", "as_file")],
    *[
        (MessageSet, name, NOT_A_FLAG)
        for name in (
            *("album", "disable_notification", "protect_content", "show_caption_above_media", "has_spoiler"),
            *("as_file", "as_given", "allow_sending_without_reply"),
        )
    ],
    (MessageSet, "message_thread_id", (*NOT_A_NUMBER, 0, -1, 2**63)),
    (MessageSet, "media", (5, "x", {1}, [None], [5.5], [[1]], [b"x"], [{"id": 1}])),
    *[(MessageSet, name, ("x", 5, [1], True, object())) for name in ("reply_markup", "reply_parameters", "extra")],
    (Part, "extra", ("x", 5, [1], True, object())),
    (MessageSet, "link_preview", (5, 5.5, [1], object(), b"x")),
    *[(kind, "entities", ("x", 5, {"type": "bold"}, [5], ["x"], object())) for kind in (MessageSet, Part)],
]


@pytest.mark.parametrize(
    ("kind", "field", "given"), [(kind, field, given) for kind, field, all_given in FIELDS for given in all_given]
)
def test_a_field_of_a_message_of_another_type_is_refused(
    kind: type[MessageSet | Part], field: str, given: object
) -> None:
    other: dict[str, Any] = {"media_id": 1} if kind is Part else {}
    with pytest.raises(UsageError, match=rf"^{field}\b"):
        kind(**other | {field: given})


@pytest.mark.parametrize("field", ["reply_markup", "reply_parameters", "extra", "link_preview", "entities"])
async def test_a_mapping_that_holds_itself_or_no_json_is_refused(idle_telewarm: Telewarm, field: str) -> None:
    await add_bot(idle_telewarm)
    endless: dict[str, object] = {"inline_keyboard": [[{"text": "so"}]]}
    endless["again"] = endless
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    wrongs: list[dict[Any, Any]] = [endless, deep, {"a": object()}, {"a": {1, 2}}, {"a": b"x", 5: 5}, {"a": nan}]
    for wrong in wrongs:
        for mapping in (wrong, MappingProxyType(wrong)):
            given: Any = [mapping] if field == "entities" else mapping
            with pytest.raises(UsageError):
                await idle_telewarm.send("bot-0", READER, MessageSet(text="so", **{field: given}))


Call = Callable[[Telewarm, Any], Awaitable[object]]
CALLS: list[tuple[str, Call, tuple[object, ...]]] = [
    ("bot", lambda tw, x: tw.send(x, READER, "so"), (None, 5, b"bot-0", ["bot-0"], object())),
    ("bot", lambda tw, x: tw.add(x, jpeg(1)), (None, 5, b"bot-0", object())),
    ("bot", lambda tw, x: tw.add_url(x, "https://example.org/a.jpg"), (None, 5)),
    ("bot", lambda tw, x: tw.file_id(x, 1), (None, 5)),
    ("bot", lambda tw, x: tw.rename(x, 1, "a"), (None, 5)),
    ("bot", lambda tw, x: tw.delete(x, [1]), (None, 5)),
    ("slug", lambda tw, x: tw.delete_bot(x), (None, 5, b"x")),
    ("slug", lambda tw, x: tw.undelete_bot(x), (None, 5, b"x")),
    ("slug", lambda tw, x: tw.add_bot(x, "1:x", warmup_chats=[1]), (None, 5, b"x", "", "a b", "-", "\0", "x" * 200)),
    ("token", lambda tw, x: tw.add_bot("new", x, warmup_chats=[1]), (None, 5, b"x", "", "x")),
    ("warmup_chats", lambda tw, x: tw.add_bot("new", "1:x", warmup_chats=x), (None, 5, "@shop", -100, {})),
    ("message", lambda tw, x: tw.send("bot-0", READER, x), (None, 5, b"so", object(), {"text": "so"})),
    ("on_cold", lambda tw, x: tw.send("bot-0", READER, "so", on_cold=x), (5, "never", True, object())),
    ("patience", lambda tw, x: tw.send("bot-0", READER, "so", patience=x), NOT_SECONDS),
    ("url", lambda tw, x: tw.add_url("bot-0", x), (None, 5, b"https://example.org")),
    ("kind", lambda tw, x: tw.add("bot-0", jpeg(1), kind=x), ("jpeg", 5, object())),
    ("kind", lambda tw, x: tw.add_url("bot-0", "https://example.org/a.jpg", kind=x), ("jpeg", 5)),
    ("name", lambda tw, x: tw.add("bot-0", jpeg(1), name=x), (5, b"x", object())),
    ("name", lambda tw, x: tw.add_url("bot-0", "https://example.org/a.jpg", name=x), (5, b"x")),
    ("name", lambda tw, x: tw.rename("bot-0", 1, x), (5, b"x", object())),
    ("item", lambda tw, x: tw.get(x), ("5", None, 5.5, True, 0, -1, 2**63, object())),
    ("item", lambda tw, x: tw.ready(x), ("5", None, 0, 2**63)),
    ("item", lambda tw, x: tw.file_id("bot-0", x), ("5", None, 0, 2**63)),
    ("item", lambda tw, x: tw.rename("bot-0", x, "a"), ("5", None, 0, 2**63)),
    ("timeout", lambda tw, x: tw.ready(1, timeout=x), NOT_SECONDS),
    ("wait", lambda tw, x: tw.file_id("bot-0", 1, wait=x), NOT_SECONDS),
    ("media_ids", lambda tw, x: tw.delete("bot-0", x), (None, 5, "5", ["5"], [0], [2**63])),
    ("bots", lambda tw, x: tw.broadcast(x, "so"), (None, 5, b"x", [5], [None], {})),
    ("bots", lambda tw, x: tw.submit(x, "so", [1]), (None, 5, [5], [])),
    ("message", lambda tw, x: tw.broadcast("bot-0", x), (None, 5, object())),
    ("message", lambda tw, x: tw.submit("bot-0", x, [1]), (None, 5, object())),
    ("recipients", lambda tw, x: tw.submit("bot-0", "so", x), (None, 5, object())),
    ("column", lambda tw, x: tw.submit("bot-0", "so", b"chat_id\n1\n", column=x), (5, b"x", object())),
    ("plan", lambda tw, x: tw.submit("bot-0", "so", [1], x), (None, 5, {"per_second": 5})),
    (
        "per_second",
        lambda tw, x: tw.submit("bot-0", "so", [1], SendPlan(per_second=x)),
        ("5", True, 0, -1, float("nan")),
    ),
    ("starts_at", lambda tw, x: tw.submit("bot-0", "so", [1], SendPlan(starts_at=x)), ("2031", 5, date(2031, 5, 1))),
    ("name", lambda tw, x: tw.submit("bot-0", "so", [1], SendPlan(name=x)), (5, b"x", "a\0b")),
    ("gate", lambda tw, x: tw.submit("bot-0", "so", [1], SendPlan(gate=x)), ("no", None, 1)),
    ("bots", lambda tw, x: anext(tw.events(x)), (5, [5], b"x")),
    ("types", lambda tw, x: anext(tw.events(types=x)), (5, [5], ["nothing"], "medium")),
    ("after", lambda tw, x: anext(tw.events(after=x)), ("5", 5.5, -1, 2**63, object())),
    ("file", lambda tw, x: tw.backup(x), (None, 5, object())),
    ("broadcast_id", lambda tw, x: tw.broadcasts.get(x), ("5", None, 5.5, 0, 2**63)),
    ("broadcast_id", lambda tw, x: tw.broadcasts.pause(x), ("5", None, 0, 2**63)),
    ("broadcast_id", lambda tw, x: tw.broadcasts.add(x, [ChatId(1)]), ("5", None, 0, 2**63)),
    ("broadcast_id", lambda tw, x: tw.broadcasts.delete(x), ("5", None, 0, 2**63)),
    ("starts_at", lambda tw, x: tw.broadcasts.start(1, starts_at=x), ("2031", 5, date(2031, 5, 1))),  # type: ignore[arg-type]
]


async def test_an_argument_of_another_type_is_refused_by_its_name(idle_telewarm: Telewarm, sandbox: Sandbox) -> None:
    await add_bot(idle_telewarm)
    found = [
        f"{number}: {argument} = {given!r}: {came}"
        for number, (argument, call, wrong) in enumerate(CALLS)
        for given in wrong
        if (came := await refusal(call(idle_telewarm, given), argument)) is not None
    ]
    assert not found, "\n".join(found)
    assert sandbox.state.stats.total.messages == 0


async def refusal(asked: Awaitable[object], argument: str) -> str | None:
    """What came in place of a UsageError that names the argument."""
    try:
        async with asyncio.timeout(5):
            return f"returned {await asked!r}"
    except UsageError as error:
        return None if argument in str(error) else f"not named in: {error}"
    except Exception as error:  # noqa: BLE001 - any other is what is looked for
        return f"{type(error).__name__}: {error}"


async def test_a_list_is_a_path_its_bytes_or_chat_ids(idle_telewarm: Telewarm, tmp_path: Path) -> None:
    """Bytes are no chat ids, though each of them is a number."""
    await add_bot(idle_telewarm)
    rows = f"chat_id\n{READER}\n".encode()
    path = tmp_path / "list.csv"
    path.write_bytes(rows)
    lists: list[Any] = [path, str(path), rows, bytearray(rows), memoryview(rows), [READER], {READER}]
    for number, given in enumerate(lists):
        made = await idle_telewarm.submit("bot-0", f"so {number}", given)
        assert (made.loaded.added, made.broadcasts[0].recipients) == (1, 1)
        [page] = [page async for page in idle_telewarm.broadcasts.results(made.broadcasts[0].id, outcome="pending")]
        assert [one.chat_id for one in page] == [READER]


async def test_framework_objects_may_stand_within_mappings(idle_telewarm: Telewarm) -> None:
    await add_bot(idle_telewarm)
    rows = [[InlineKeyboardButton("Open", url="https://example.org")], [AiogramButton(text="So", callback_data="x")]]
    message = MessageSet(text="so", reply_markup={"inline_keyboard": rows})
    assert message.reply_markup == {
        "inline_keyboard": [
            [{"text": "Open", "url": "https://example.org"}],
            [{"text": "So", "callback_data": "x"}],
        ]
    }
    [sent] = await idle_telewarm.send("bot-0", READER, message)
    assert sent.error is None
