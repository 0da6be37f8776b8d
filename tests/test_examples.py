"""The examples do what their first lines say, run as anybody would."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from telewarm import clock
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.fixtures.app import READER, WARMUP_CHAT, Opener
from tests.fixtures.media import jpeg
from tests.fixtures.sandbox import token

EXAMPLES = Path(__file__).parent.parent / "examples"


async def run(opener: Opener, name: str, *words: str, **environ: str) -> list[str]:
    """What it prints, a line each."""
    usual = {"PATH": os.defpath, "BOT_TOKEN": token(0), "WARMUP_CHAT": str(WARMUP_CHAT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *words,
        env=opener.environ() | usual | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    return printed.decode().splitlines()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "<new> & cheap.jpg"
    path.write_bytes(jpeg(1))
    return path


async def test_a_photo_is_sent_and_sent_again_by_its_file_id(
    telewarm_with: Opener, sandbox: Sandbox, photo: Path
) -> None:
    first, text, again, _ = await run(telewarm_with, "send.py", str(photo), CHAT=str(READER))

    assert first.startswith("1: photo ")
    assert text.startswith("1: text ")
    assert again.startswith("2: photo ")
    assert "by its file id" in again
    assert sandbox.state.stats.chats[READER] == 4


async def test_a_broadcast_reaches_everybody_in_the_list_once(
    telewarm_with: Opener, sandbox: Sandbox, photo: Path, tmp_path: Path
) -> None:
    chats = tmp_path / "chats.csv"
    chats.write_text("chat_id\n" + "\n".join(str(READER + number) for number in range(40)) + "\nnobody\n")

    loaded, *_, end = await run(telewarm_with, "broadcast.py", str(photo), str(chats))

    assert loaded == "40 chats, 0 twice, 1 lines without one"
    assert end == "done: 40 sent"
    assert [sandbox.state.stats.chats[READER + number] for number in range(40)] == [1] * 40


@pytest.mark.heavy
@pytest.mark.timeout(60)  # the killed process is believed dead after some 6 s
async def test_a_broadcast_that_is_killed_and_started_again_goes_on(
    telewarm_with: Opener, sandbox: Sandbox, photo: Path, tmp_path: Path
) -> None:
    chats = tmp_path / "chats.csv"
    chats.write_text("\n".join(str(READER + number) for number in range(300)))
    held = READER + 299  # its answer never comes, so that it cannot be over before it is killed
    sandbox.state.faults.add(Rule(action="hang", chat=held))
    usual = {"PATH": os.defpath, "BOT_TOKEN": token(0), "WARMUP_CHAT": str(WARMUP_CHAT)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "broadcast.py"), str(photo), str(chats)),
        env=telewarm_with.environ() | usual,
    )
    while sandbox.state.stats.total.messages < 30:
        await clock.sleep(0.02)
    process.kill()
    await process.wait()
    sandbox.state.faults.clear()  # it may not have been asked for yet, and the second run must not wait for it

    printed = await run(telewarm_with, "broadcast.py", str(photo), str(chats))
    assert "broadcast 1 is unfinished: going on with it" in printed
    assert max(sandbox.state.stats.chats[READER + number] for number in range(300)) == 1
    [refused] = await run(telewarm_with, "broadcast.py", str(photo), str(chats))
    assert "Nothing was sent" in refused
