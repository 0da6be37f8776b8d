"""Lists on the command line: what was guessed is shown and asked before anybody gets anything."""

from __future__ import annotations

import pytest

from telewarm.models import BroadcastState
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from tests.cli.conftest import Commands
from tests.fixtures.app import READER, add_bot

REFS = f"No,Name,Ref\n1,Ann,{READER}\n2,Bob,{READER + 1}\n"
SHOWN = f"Loaded 2 chats (0 duplicates, 0 invalid lines) from column 'Ref'; first: {READER}, {READER + 1}"


@pytest.fixture
async def telewarm(command: Commands) -> Telewarm:
    """With the bot `bot-0`."""
    telewarm = await command.opener(worker=False)
    await add_bot(telewarm)
    (command.folder / "refs.csv").write_text(REFS)
    (command.folder / "rows.csv").write_text("No,Name\n1,Ann\n2,Bob\n")
    (command.folder / "book.xlsx").write_bytes(b"PK\x03\x04\x14\x00\x06\x00[Content_Types].xml" + bytes(100))
    return telewarm


async def test_a_guess_is_shown_and_started_only_when_it_is_confirmed(command: Commands, telewarm: Telewarm) -> None:
    broadcast = (await command.ok("broadcast", "create", "bot-0", "--text", "Hi")).out.strip()

    loaded = await command.ok("broadcast", "load", broadcast, "refs.csv")
    refused = await command("broadcast", "start", broadcast)
    shown = await command.ok("broadcast", "show", broadcast)

    assert SHOWN in loaded.said
    assert "This is a guess: no column is called chat_id" in loaded.said
    assert refused.code == 1
    assert "--yes" in refused.said
    assert "no column is called chat_id" in shown.out
    [one] = await telewarm.broadcasts.page()
    assert one.state is BroadcastState.DRAFT
    await command.ok("broadcast", "start", broadcast, "--yes")


@pytest.mark.parametrize("answer", ["n", "y"])
async def test_on_a_terminal_the_guess_is_asked_about(
    command: Commands, telewarm: Telewarm, sandbox: Sandbox, answer: str
) -> None:
    ended = await command.answered(answer, "broadcast", "send", "bot-0", "refs.csv", "--text", "Hi")

    assert SHOWN in ended.said
    assert "This is a guess" in ended.said
    assert sandbox.state.stats.total.calls["sendMessage"] == (2 if answer == "y" else 0)
    assert (await telewarm.broadcasts.page())[0].state is (
        BroadcastState.DONE if answer == "y" else BroadcastState.DRAFT
    )


async def test_the_column_may_be_said(command: Commands, telewarm: Telewarm, sandbox: Sandbox) -> None:
    ended = await command.process(
        "broadcast", "send", "bot-0", "refs.csv", "--text", "Hi", "--column", "ref", "--yes"
    )  # fmt: skip

    assert ended.code == 0, ended
    assert SHOWN in ended.said
    assert "guess" not in ended.said
    assert (await telewarm.broadcasts.page())[0].guess is None
    assert sandbox.state.stats.total.calls["sendMessage"] == 2


@pytest.mark.parametrize(
    ("source", "words"), [("rows.csv", "--column No"), ("book.xlsx", "Excel workbook"), ("empty.csv", "no chat id")]
)
async def test_a_list_that_cannot_be_used_leaves_no_draft(
    command: Commands, telewarm: Telewarm, source: str, words: str
) -> None:
    (command.folder / "empty.csv").write_text("chat_id\n")

    ended = await command("broadcast", "send", "bot-0", source, "--text", "Hi", "--yes")

    assert ended.code == 1
    assert words in ended.said
    assert await telewarm.broadcasts.page() == []
