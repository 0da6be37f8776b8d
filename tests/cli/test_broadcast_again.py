"""`telewarm broadcast send`, repeated: killed and started again it goes on, and nobody gets it twice."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import sys
import termios

import pytest

from telewarm.models import BroadcastState, DeliveryStatus
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Network
from telewarm.sandbox.faults import Rule
from tests.cli.conftest import Ended
from tests.cli.test_broadcast import Shell, ended, readers, shell
from tests.fixtures.app import READER, until
from tests.fixtures.media import jpeg

__all__ = ["shell"]  # a fixture
pytestmark = pytest.mark.timeout(60)
DONE, RUNNING = BroadcastState.DONE, BroadcastState.RUNNING


async def answered(shell: Shell, answer: bytes, *arguments: str) -> Ended:
    """On a terminal, on which somebody types the answer."""
    ours, theirs = pty.openpty()
    process = await shell.start(*arguments, stdin=theirs)
    os.close(theirs)
    os.write(ours, answer)
    result = await ended(process)
    os.close(ours)
    return result


async def killed(shell: Shell, sandbox: Sandbox, *arguments: str, after: int) -> None:
    """It is killed when so many messages were sent."""
    before = sandbox.state.stats.total.messages
    process = await shell.start(*arguments)

    async def begun() -> bool:
        return sandbox.state.stats.total.messages >= before + after

    await until(shell.telewarm, begun)
    process.kill()
    await process.wait()


async def of_all(shell: Shell) -> list[BroadcastState]:
    return [one.state for one in await shell.telewarm.broadcasts.page()]


@pytest.mark.heavy
async def test_killed_and_repeated_it_goes_on_with_the_unfinished_one_and_says_so(
    shell: Shell, sandbox: Sandbox
) -> None:
    (shell.folder / "cat.jpg").write_bytes(jpeg(1))
    sandbox.state.configure(network=Network(latency=0.02))
    command = ("send", "bot-0", shell.list_of(*readers(600)), "--media", "cat.jpg", "--caption", "Hello", "--yes")
    await killed(shell, sandbox, *command, after=100)
    sandbox.state.configure(network=Network())
    shell.list_of("chat_id", *reversed(readers(600)), READER)  # the same list in another order

    again = await shell.run(*command)

    assert again.code == 0, again.said
    assert "Broadcast 1 to the same list with the same message is unfinished (" in again.said
    assert "Going on with it." in again.said
    [only] = await shell.telewarm.broadcasts.page()
    assert (only.state, only.recipients) == (DONE, 600)
    assert only.counts[DeliveryStatus.SENT] + only.counts[DeliveryStatus.UNKNOWN] == 600
    assert max(sandbox.state.stats.chats[chat_id] for chat_id in readers(600)) == 1


async def test_killed_while_the_list_loads_it_begins_again_and_leaves_no_draft(shell: Shell, sandbox: Sandbox) -> None:
    process = await shell.start("send", "bot-0", "-", "--text", "Hello", "--yes")
    assert process.stdin is not None
    process.stdin.write("".join(f"{chat_id}\n" for chat_id in readers(5)).encode())
    await process.stdin.drain()

    async def drafted() -> bool:
        return bool(await shell.telewarm.broadcasts.page())

    await until(shell.telewarm, drafted)
    process.kill()
    await process.wait()
    chats = "".join(f"{chat_id}\n" for chat_id in readers(7))

    result = await shell.run("send", "bot-0", "-", "--text", "Hello", "--yes", given=chats)

    assert result.code == 0, result.said
    assert await of_all(shell) == [DONE]
    assert [sandbox.state.stats.chats[chat_id] for chat_id in readers(7)] == [1] * 7


async def test_what_was_finished_today_is_sent_again_only_when_asked(shell: Shell, sandbox: Sandbox) -> None:
    command = ("send", "bot-0", shell.list_of(*readers(3)), "--text", "Hello", "--yes")
    assert (await shell.run(*command)).code == 0

    refused = await shell.run(*command)
    assert refused.code not in {0, None}
    assert "Broadcast 1 to the same list with the same message ended at" in refused.said
    assert "--again" in refused.said
    assert await of_all(shell) == [DONE]
    assert sandbox.state.stats.total.messages == 3

    assert (await shell.run(*command, "--again")).code == 0
    assert await of_all(shell) == [DONE, DONE]
    assert [sandbox.state.stats.chats[chat_id] for chat_id in readers(3)] == [2] * 3


async def test_on_a_terminal_it_asks_whether_to_send_it_once_more(shell: Shell, sandbox: Sandbox) -> None:
    command = ("send", "bot-0", shell.list_of(*readers(3)), "--text", "Hello")
    assert (await answered(shell, b"y\n", *command)).code == 0

    no = await answered(shell, b"\n", *command)
    assert (no.code, sandbox.state.stats.total.messages) == (1, 3)
    assert "Send it once more? [y/N]" in no.said
    assert await of_all(shell) == [DONE]

    assert (await answered(shell, b"y\n", *command)).code == 0
    assert sandbox.state.stats.total.messages == 6


async def test_another_message_or_list_is_another_broadcast(shell: Shell, sandbox: Sandbox) -> None:
    for text, count in (("Hello", 3), ("Hello!", 3), ("Hello", 4)):
        chats = shell.list_of(*readers(count))
        assert (await shell.run("send", "bot-0", chats, "--text", text, "--yes")).code == 0
    assert sandbox.state.stats.total.messages == 10


async def test_a_paused_one_is_not_gone_on_with_by_a_program(shell: Shell, sandbox: Sandbox) -> None:
    words = "Bad Request: BUTTON_URL_INVALID"
    sandbox.state.faults.add(Rule(action="error", code=400, description=words, count=None))
    command = ("send", "bot-0", shell.list_of(*readers(3)), "--text", "Sale", "--yes")
    first = await shell.run(*command)
    assert first.code == 1
    assert words in first.said

    again = await shell.run(*command)

    assert again.code == 1
    assert "It is paused." in again.said
    assert "telewarm broadcast resume 1" in again.said
    assert await of_all(shell) == [BroadcastState.PAUSED]
    assert sandbox.state.stats.total.messages == 0


async def test_two_at_once_send_it_once(shell: Shell, sandbox: Sandbox) -> None:
    command = ("send", "bot-0", shell.list_of(*readers(200)), "--text", "Hello", "--yes")
    results = await asyncio.gather(*[ended(await shell.start(*command)) for _ in range(3)])
    assert [result.code for result in results].count(0) >= 1, results
    assert len(await of_all(shell)) == 1
    assert dict.fromkeys(readers(200), 1) == {chat: sandbox.state.stats.chats[chat] for chat in readers(200)}


async def test_a_schedule_is_repeated_without_a_second_one(shell: Shell, sandbox: Sandbox) -> None:
    chats = shell.list_of(*readers(2))
    session = await shell.telewarm.bots.by_slug("bot-0")
    made = await shell.telewarm.submit("bot-0", "Hello", [*readers(2)])
    assert session.bot.id == made.broadcasts[0].bot_id

    at = ("--at", "2031-05-01T09:00+00:00")
    refused = await shell.run("send", "bot-0", chats, "--text", "Hello", "--yes", *at)
    assert refused.code != 0
    assert "--again" in refused.said

    process = await shell.start("send", "bot-0", chats, "--text", "Hello", "--yes", "--again", *at)

    async def scheduled() -> bool:
        return len(await of_all(shell)) == 2

    await until(shell.telewarm, scheduled)
    await until(shell.telewarm, lambda: _scheduled(shell))
    process.kill()
    await process.wait()
    repeated = await shell.start("send", "bot-0", chats, "--text", "Hello", "--yes", "--again", *at)
    repeated_said = b""
    assert repeated.stderr is not None
    while b"Going on with it." not in repeated_said:
        repeated_said += await repeated.stderr.readline()
    await until(shell.telewarm, scheduled)  # its own draft is gone
    repeated.kill()
    assert sandbox.state.stats.total.messages <= 2


async def _scheduled(shell: Shell) -> bool:
    return BroadcastState.SCHEDULED in await of_all(shell)


async def test_a_time_that_has_passed_is_refused_and_leaves_no_draft(shell: Shell, sandbox: Sandbox) -> None:
    chats = shell.list_of(*readers(2))
    result = await shell.run("send", "bot-0", chats, "--text", "x", "--yes", "--at", "2020-01-01T09:00")
    assert result.code != 0
    assert "has passed" in result.said
    assert await of_all(shell) == []
    assert sandbox.state.stats.total.messages == 0


@pytest.mark.parametrize("source", ["-", "chats.csv"])
async def test_where_nobody_is_to_be_asked_it_needs_yes(shell: Shell, sandbox: Sandbox, source: str) -> None:
    shell.list_of(*readers(2))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telewarm", "broadcast", "send", "bot-0", source, "--text", "x"),
        cwd=shell.folder,
        env=shell.opener.environ(COLUMNS="200"),
        start_new_session=True,  # without a controlling terminal
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    result = await ended(process, f"{READER}\n")
    assert result.code != 0
    assert "add --yes" in result.said
    assert await of_all(shell) == []
    assert sandbox.state.stats.total.messages == 0
    assert await shell.telewarm.pool.fetchval("SELECT count(*) FROM recipient") == 0


async def test_watching_where_no_worker_runs_says_so(shell: Shell) -> None:
    await shell.telewarm.submit("bot-0", "Hello", [*readers(2)])
    process = await shell.start("watch", "1")
    said = b""
    assert process.stderr is not None
    while b"No worker is running, so nothing moves: start telewarm serve, or add --work" not in said:
        said += await process.stderr.readline()
    process.kill()
    await process.wait()


async def test_errors_are_shown_by_cause_and_failed_ones_are_retried(shell: Shell, sandbox: Sandbox) -> None:
    words = "Bad Request: QUOTE_NEW"
    sandbox.state.faults.add(Rule(action="error", code=400, description=words, count=2))
    first = await shell.run("send", "bot-0", shell.list_of(*readers(5)), "--text", "Hello", "--yes")
    assert (first.code, f"2 failed, such as chat {READER}" in first.said) == (0, True)
    for command in (("show", "1"), ("list",)):
        assert words in (await shell.ok(*command)).out

    assert "running" in (await shell.ok("retry", "1", "--failed")).said
    assert (await shell.run("watch", "1", "--work")).code == 0
    assert [sandbox.state.stats.chats[chat_id] for chat_id in readers(5)] == [1] * 5
    nothing = await shell.run("retry", "1")
    assert nothing.code != 0
    assert "--failed" in nothing.said


async def test_a_scheduled_one_is_listed_with_its_time(shell: Shell) -> None:
    await shell.draft(*readers(2))
    started = await shell.ok("start", "1", "--at", "2031-05-01T09:00+00:00")
    assert "is scheduled: starts 2031-05-01" in started.said
    for command in (("show", "1"), ("list",)):
        out = (await shell.ok(*command)).out
        assert "scheduled" in out
        assert "2031-05-01" in out


@pytest.mark.parametrize(("answer", "code", "sent"), [(b"y\n", 0, 2), (b"n\n", 1, 0)])
async def test_a_list_from_standard_input_is_asked_about_on_the_terminal(
    shell: Shell, sandbox: Sandbox, answer: bytes, code: int, sent: int
) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telewarm", "broadcast", "send", "bot-0", "-", "--text", "x"),
        cwd=shell.folder,
        env=shell.opener.environ(COLUMNS="200"),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
        pass_fds=(theirs,),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    os.write(ours, answer)
    result = await ended(process, "".join(f"{chat}\n" for chat in readers(2)))
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert (result.code, sandbox.state.stats.total.messages) == (code, sent), result
    assert "Send it to 2 chats? [y/N]" in shown
