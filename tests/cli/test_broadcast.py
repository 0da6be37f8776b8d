"""`telewarm broadcast …` beside a Telewarm on the same database."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from telewarm.models import BroadcastId, BroadcastState, ChatId, DeliveryStatus, MessageSet
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from tests.cli.conftest import Commands, Ended
from tests.fixtures.app import READER, Opener, add_bot, until
from tests.fixtures.media import jpeg

pytestmark = pytest.mark.timeout(60)  # whole programs start; mostly it takes a few seconds
FIRST = BroadcastId(1)


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands in a folder of the test's own: in this process, or as processes."""

    opener: Opener
    folder: Path
    telewarm: Telewarm
    command: Commands
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(
        self, *arguments: str, stdin: int = asyncio.subprocess.PIPE, stderr: int = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "telewarm", "broadcast", *arguments,
            cwd=self.folder, env=self.opener.environ(COLUMNS="200"), stdin=stdin,
            stdout=asyncio.subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
        self.processes.append(process)
        return process

    async def run(self, *arguments: str, given: str | None = None) -> Ended:
        return await self.command("broadcast", *arguments, given=given or "")

    async def ok(self, *arguments: str) -> Ended:
        result = await self.run(*arguments)
        assert result.code == 0, result
        return result

    def list_of(self, *lines: object) -> str:
        (self.folder / "chats.csv").write_text("".join(f"{line}\n" for line in lines))
        return "chats.csv"

    async def draft(self, *chats: int, name: str | None = None) -> None:
        """Broadcast 1, without a command."""
        session = await self.telewarm.bots.by_slug("bot-0")
        await self.telewarm.broadcasts.create([session], MessageSet(text="Hello"), name=name)
        await self.telewarm.broadcasts.add(FIRST, [ChatId(chat) for chat in chats])

    async def state(self) -> BroadcastState:
        return (await self.telewarm.broadcasts.get(FIRST)).state


async def ended(process: asyncio.subprocess.Process, given: str | None = None) -> Ended:
    out, said = await process.communicate(None if given is None else given.encode())
    assert process.returncode is not None
    # A terminal keeps what was said.
    return Ended(code=process.returncode, out=out.decode(), said=(said or b"").decode())


@pytest.fixture
async def shell(command: Commands, telewarm_with: Opener, tmp_path: Path) -> AsyncIterator[Shell]:
    """With the bot `bot-0`; what works is only what a command carries."""
    telewarm = await telewarm_with(worker=False)
    await add_bot(telewarm)
    shell = Shell(telewarm_with, tmp_path, telewarm, command)
    yield shell
    for process in shell.processes:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def readers(count: int) -> Sequence[int]:
    return range(READER, READER + count)


async def test_one_command_makes_loads_and_sends_it_and_waits_until_it_is_done(shell: Shell, sandbox: Sandbox) -> None:
    (shell.folder / "cat.jpg").write_bytes(jpeg(1))
    sandbox.state.chats.declare(READER + 1, blocked=True)
    result = await shell.run(
        "send", "bot-0", shell.list_of("chat_id", *readers(40), "@ann"),
        "--media", "cat.jpg", "--caption", "<b>New</b>", "--html", "--text", "Hello", "--yes",
    )  # fmt: skip
    assert result.code == 0, result.said
    assert "Loaded 40 chats" in result.said
    assert "line 42" in result.said
    assert "broadcast 1 is done: 39 sent, 1 unreachable" in result.said
    assert sandbox.state.stats.chats[READER] == 2
    assert sandbox.state.stats.total.uploads == 1


async def test_a_list_comes_from_standard_input_too(shell: Shell, sandbox: Sandbox) -> None:
    chats = "".join(f"{chat_id}\n" for chat_id in readers(5))
    result = await shell.run("send", "bot-0", "-", "--text", "Hello", "--rate", "100", "--yes", given=chats)
    assert result.code == 0, result.said
    assert [sandbox.state.stats.chats[chat_id] for chat_id in readers(5)] == [1] * 5


async def test_interrupted_it_says_how_to_go_on_and_nothing_is_lost(shell: Shell, sandbox: Sandbox) -> None:
    sandbox.state.configure(network=Network(latency=0.02))
    process = await shell.start("send", "bot-0", shell.list_of(*readers(1500)), "--text", "Hello", "--yes")

    async def begun() -> bool:
        return sandbox.state.stats.total.messages > 20

    await until(shell.telewarm, begun)
    process.send_signal(signal.SIGINT)
    result = await ended(process)
    assert result.code == 130
    assert "telewarm broadcast watch 1 --work" in result.said
    found = await shell.telewarm.broadcasts.get(FIRST)
    assert found.state is BroadcastState.RUNNING
    assert found.counts[DeliveryStatus.UNKNOWN] == 0

    sandbox.state.configure(network=Network())
    again = await shell.run("watch", "1", "--work")
    assert again.code == 0, again.said
    assert (await shell.telewarm.broadcasts.get(FIRST)).counts[DeliveryStatus.SENT] == 1500
    assert max(sandbox.state.stats.chats[chat_id] for chat_id in readers(1500)) == 1


async def test_on_a_terminal_it_asks_with_the_count_and_no_keeps_the_draft(shell: Shell, sandbox: Sandbox) -> None:
    ours, theirs = pty.openpty()
    process = await shell.start("send", "bot-0", shell.list_of(*readers(7)), "--text", "Hello", stdin=theirs)
    os.close(theirs)
    os.write(ours, b"n\n")
    result = await ended(process)
    os.close(ours)
    assert result.code == 1
    assert "Send it to 7 chats?" in result.said
    assert "kept as a draft" in result.said
    assert await shell.state() is BroadcastState.DRAFT
    assert sandbox.state.stats.total.messages == 0


async def test_on_a_terminal_there_are_bars(shell: Shell) -> None:
    await shell.draft(*readers(3))
    ours, theirs = pty.openpty()
    for arguments in (("load", "1", shell.list_of(*readers(7))), ("watch", "1")):
        process = await shell.start(*arguments, stderr=theirs)
        await ended(process)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "Loaded 4 chats" in shown
    assert "0 of 7" in shown
    assert "telewarm broadcast start 1" in shown


async def test_step_by_step_a_script_uses_the_id_that_create_prints(shell: Shell, sandbox: Sandbox) -> None:
    buttons = json.dumps({"inline_keyboard": [[{"text": "Open", "url": "https://example.org"}]]})
    created = await shell.ok("create", "bot-0", "--text", "Hello", "--name", "May", "--buttons", buttons, "--silent")
    number = created.out.strip()
    assert number == "1"
    assert "Loaded 3 chats" in (await shell.ok("load", number, shell.list_of(*readers(3), "x"))).said
    assert "text: message" in (await shell.ok("test", number, str(-READER))).out
    sandbox.state.chats.declare(-1_001_000_000_321, username="shop_news")
    assert "text: message" in (await shell.ok("test", number, "@shop_news")).out
    assert sandbox.state.stats.chats[-READER] == 1
    assert "2031-05-01" in (await shell.ok("start", number, "--at", "2031-05-01T09:00")).said
    message = (await shell.telewarm.broadcasts.get(FIRST)).message
    assert (message.reply_markup, message.disable_notification) == (json.loads(buttons), True)


async def test_it_is_started_paused_resumed_and_cancelled_by_its_id(shell: Shell) -> None:
    await shell.draft(*readers(3))
    for command, state in [("start", "running"), ("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")]:
        await shell.ok(command, "1")
        assert await shell.state() == state


async def test_list_and_show_say_how_far_it_is(shell: Shell) -> None:
    await shell.draft(*readers(3), name="May")
    assert "May" in (await shell.ok("list", "--bot", "bot-0")).out
    assert "3 left" in (await shell.ok("show", "1")).out


async def test_its_lists_are_written_as_csv_and_it_is_deleted(shell: Shell) -> None:
    await shell.draft(*readers(2), 0)
    assert (await shell.ok("results", "1", "--outcome", "pending", "-o", "left.csv")).out == ""
    assert (shell.folder / "left.csv").read_text().splitlines()[1:] == [f"{each},pending,,," for each in readers(2)]
    assert (await shell.ok("rejected", "1")).out.splitlines()[1].startswith("3,")
    await shell.ok("delete", "1")
    assert await shell.telewarm.broadcasts.page() == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("send", "bot-0", "none.csv", "--text", "x"), "none.csv"),
        (("send", "nobody", "chats.csv", "--text", "x"), "nobody"),
        (("send", "bot-0", "chats.csv"), "--text"),
        (("send", "bot-0", "chats.csv", "--caption", "x", "--text", "y"), "--media"),
        (("send", "bot-0", "chats.csv", "--media", "gone.jpg"), "gone.jpg"),
        (("create", "bot-0", "--text", "x", "--at", "soon"), "2031-05-01T09:00"),
        (("create", "bot-0", "--text", "x", "--buttons", "{"), "inline_keyboard"),
        (("results", "1", "--outcome", "gone"), "pending"),
        (("undo", "7"), "no broadcast 7"),
    ],
)
async def test_a_mistake_ends_in_one_line_that_names_the_cure(
    shell: Shell, arguments: tuple[str, ...], word: str
) -> None:
    shell.list_of(ChatId(READER))
    result = await shell.run(*arguments)
    assert result.code == 1
    assert word in result.said
    assert "Traceback" not in result.said
    assert await shell.telewarm.broadcasts.page() == []


async def test_a_list_without_any_chat_id_is_not_sent(shell: Shell) -> None:
    result = await shell.run("send", "bot-0", shell.list_of("@ann"), "--text", "x")
    assert result.code == 1
    assert "no chat id" in result.said
