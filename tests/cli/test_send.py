"""`telewarm send` as a process: it sends, says what went, and ends with 1 when something did not."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from telewarm.cli import app
from telewarm.runtime import Telewarm
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from tests.fixtures.app import READER, Opener, add_bot, add_photos
from tests.fixtures.media import jpeg

GROUP = -1001234567890


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    code: int
    out: list[str]
    err: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shell:
    """Runs the command in a folder with two pictures."""

    opener: Opener
    folder: Path
    telewarm: Telewarm

    async def send(self, *arguments: str, stderr: int = asyncio.subprocess.PIPE) -> Said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "telewarm", "send", *arguments),
            cwd=self.folder, env=self.opener.environ(TERM="xterm", COLUMNS="100"),
            stdout=asyncio.subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode is not None
        return Said(code=process.returncode, out=out.decode().splitlines(), err=(err or b"").decode())


@pytest.fixture
async def shell(telewarm_with: Opener, tmp_path: Path) -> Shell:
    telewarm = await telewarm_with(worker=False)
    await add_bot(telewarm)
    for seed, name in enumerate(("cat.jpg", "dog.jpg")):
        (tmp_path / name).write_bytes(jpeg(seed))
    return Shell(opener=telewarm_with, folder=tmp_path, telewarm=telewarm)


async def test_files_and_text_go_and_each_message_has_a_line(shell: Shell, sandbox: Sandbox) -> None:
    said = await shell.send("bot-0", str(READER), "cat.jpg", "dog.jpg", "--text", "so", "--caption", "a cat")

    assert (said.code, said.err) == (0, "")
    assert [re.sub(r"[\d.]+ ms", "", line) for line in said.out] == [
        "photo 1: message 1, uploaded, ",
        "photo 2: message 2, uploaded, ",
        "text: message 3, ",
    ]
    assert sandbox.state.stats.chats == {READER: 3}


async def test_a_program_reads_what_went_and_what_did_not(shell: Shell, sandbox: Sandbox) -> None:
    sandbox.state.faults.add(Rule(action="error", code=400, description="Bad Request: TEXT_TOO_ODD", skip=1))

    went = await shell.send("bot-0", str(READER), "cat.jpg", "--json")
    failed = await shell.send("bot-0", str(READER), "--text", "so", "--json")

    assert (went.code, failed.code) == (0, 1)
    [photo] = json.loads("".join(went.out))["results"]
    assert (photo["kind"], photo["media_id"], photo["message_id"]) == ("photo", 1, 1)
    [text] = (answer := json.loads("".join(failed.out)))["results"]
    assert answer["ok"] is False
    assert text["message_id"] is None
    assert "TEXT_TOO_ODD" in text["message"]


async def test_what_was_sent_before_goes_by_its_file_id_also_to_a_group(shell: Shell, sandbox: Sandbox) -> None:
    await shell.send("bot-0", str(READER), "cat.jpg")

    by_file = await shell.send("bot-0", str(GROUP), "cat.jpg", "--silent", "--protect")
    by_id = await shell.send("bot-0", str(GROUP), "--media", "1", "--html", "--caption", "<b>New</b>")

    assert [(said.code, len(said.out)) for said in (by_file, by_id)] == [(0, 1)] * 2
    assert sandbox.state.stats.total.uploads == 1
    assert sandbox.state.stats.chats == {READER: 1, GROUP: 2}


async def test_an_album_goes_as_one(shell: Shell, sandbox: Sandbox) -> None:
    ids = await add_photos(shell.telewarm, await shell.telewarm.bots.by_slug("bot-0"), 2)
    for media_id in ids:
        await shell.send("bot-0", str(READER), "--media", str(media_id))

    said = await shell.send("bot-0", str(READER), "cat.jpg", "--media", str(ids[1]), "--album")

    assert (said.code, len(said.out)) == (0, 2)
    assert sandbox.state.stats.total.calls["sendMediaGroup"] == 1


async def test_what_does_not_go_is_told_and_the_exit_code_is_1(shell: Shell, sandbox: Sandbox) -> None:
    sandbox.state.chats.declare(READER, blocked=True)

    said = await shell.send("bot-0", str(READER), "--text", "so")

    assert said.code == 1
    assert said.out[0].startswith("text: CHAT_UNREACHABLE Telegram refused")


async def test_a_file_that_is_no_media_is_named_and_nothing_goes(shell: Shell, sandbox: Sandbox) -> None:
    (shell.folder / "empty.jpg").write_bytes(b"")

    said = await shell.send("bot-0", str(READER), "cat.jpg", "empty.jpg")

    assert said.code == 1
    assert "empty.jpg" in said.err
    assert "Traceback" not in said.err
    assert sandbox.state.stats.total.messages == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody", "1", "--text", "so"), "nobody"),
        (("bot-0", "1"), "nothing to send"),
        (("bot-0", "1", "--caption", "so"), "no media"),
        (("bot-0", "1", "--text", "so", "--html", "--markdown"), "--html or --markdown"),
        (("bot-0", "1", "--media", "99"), "99"),
    ],
)
async def test_a_mistake_is_told_in_one_line(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    said = await shell.send(*arguments)

    assert said.code == 1
    assert words in said.err
    assert "Traceback" not in said.err


async def test_on_a_terminal_a_bar_shows_how_far_the_files_are(shell: Shell) -> None:
    reading, writing = pty.openpty()
    try:
        said = await shell.send("bot-0", str(READER), "cat.jpg", stderr=writing)
        shown = os.read(reading, 65536).decode()
    finally:
        os.close(reading)
        os.close(writing)

    assert said.code == 0
    assert "into the library" in shown


@pytest.mark.parametrize("arguments", [("bot-0", "x"), ("bot-0", "1", "gone.jpg"), ("bot-0", "1", "--txt", "so")])
def test_a_slip_is_told_with_the_way_to_help(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["send", *arguments])

    assert result.exit_code == 2
    assert "--help" in result.output


def test_help_teaches_with_examples() -> None:
    shown = ("send shop 500000001 --text", "-1001234567890 cat.jpg", "--reply-to", "--topic", "exit code is 1")
    said = CliRunner().invoke(app, ["send", "--help"], env={"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}).output

    for words in shown:
        assert words in said


async def test_a_file_that_goes_as_a_document_says_why(shell: Shell) -> None:
    (shell.folder / "fake.jpg").write_bytes(b"no picture at all")

    said = await shell.send("bot-0", str(READER), "fake.jpg")

    assert said.code == 0
    assert said.out[0].startswith("document ")
    assert "fake.jpg: taken as a document: not a picture" in said.err
