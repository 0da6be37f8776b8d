"""What keeps a command from starting is said in one sentence."""

from __future__ import annotations

import asyncio
import os
import re
import socket

import pytest

from tests.cli.conftest import Commands
from tests.fixtures.app import add_bot


async def test_a_sandbox_on_a_port_in_use_is_refused_in_one_sentence(command: Commands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await command.start("sandbox", "--port", str(port))
        out, said = await process.communicate()

    assert (process.returncode, out) == (1, b"")
    [line] = said.decode().splitlines()
    assert line.endswith(f"Port {port} is already in use. Stop that program or choose another --port")


async def test_a_lost_key_file_is_named_and_no_new_one_is_made(command: Commands) -> None:
    await add_bot(await command.opener(worker=False))
    key = command.opener.data / "encryption.key"
    held = key.read_text()
    key.unlink()

    for words in (("bot", "list"), ("rotate-key", "--generate")):
        ended = await command(*words)
        assert ended.code == 1
        assert f"{key} is missing, and in this database the token of 1 bot is sealed" in ended.said
        assert not key.exists()

    key.write_text(held)
    assert (await command.ok("bot", "list")).out


@pytest.mark.parametrize("held", [b"", b"\n", b"ab" * 31, b"ab" * 33, b"ab" * 16, b"zz" * 32, b"\xff\xfe" * 32])
async def test_a_damaged_key_file_is_named_and_left_alone(command: Commands, held: bytes) -> None:
    await add_bot(await command.opener(worker=False))
    key = command.opener.data / "encryption.key"
    key.write_bytes(held)

    for words in (("bot", "list"), ("rotate-key", "--generate"), ("backup", "b.tar")):
        ended = await command(*words)
        assert ended.code == 1
        assert str(key) in ended.said
        assert "BAD_SETTING" in ended.said
    assert key.read_bytes() == held


@pytest.mark.parametrize("held", [b"", b"tw_short", b"x" * 50, b"\xff\xfe"])
async def test_a_damaged_token_file_opens_nothing_and_is_named(command: Commands, held: bytes) -> None:
    token = command.opener.data / "api.token"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_bytes(held)

    ended = await command("token", "show")

    assert (ended.code, ended.out) == (1, "")
    assert str(token) in ended.said


async def test_a_token_file_that_others_can_read_is_closed_and_told(command: Commands) -> None:
    made = await command.ok("token", "show")
    token = command.opener.data / "api.token"
    token.chmod(0o644)

    shown = await command.ok("token", "show")

    assert shown.out == made.out  # which a script reads
    assert "secret_file_was_readable_by_others" in shown.said
    assert token.stat().st_mode & 0o777 == 0o600


async def test_processes_that_ask_for_a_token_at_once_get_the_same(command: Commands) -> None:
    asked = await asyncio.gather(*(command.process("token", "show") for _ in range(4)))

    assert [one.code for one in asked] == [0] * 4
    assert len({one.out for one in asked}) == 1
    assert [path.name for path in command.opener.data.glob("api.token*")] == ["api.token"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("send", "shop", "42", "--txt", "hello"), "No such option --txt. Did you mean --text?"),
        (("send", "shop", "-1001234567890", "--captoin=x"), "No such option --captoin. Did you mean --caption?"),
        (("send", "shop", "42", "--text", "--txt", "-q"), "No such option -q."),
        (("broadcast", "test", "1", "-100123", "--yse"), "No such option --yse."),
    ],
)
async def test_a_misspelt_option_is_no_file(command: Commands, words: tuple[str, ...], said: str) -> None:
    ended = await command(*words)

    assert ended.code == 2
    assert said in " ".join(re.sub("[│╭╮╰╯─]", " ", ended.said).split())


async def test_an_id_below_zero_and_a_text_like_an_option_are_taken(command: Commands) -> None:
    ended = await command("send", "shop", "-1001234567890", "--text", "--txt")

    assert "NOT_FOUND" in ended.said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize("given", ["closed", "closed/cat.jpg", "."])
async def test_a_folder_without_the_right_to_read_it_is_named(command: Commands, given: str) -> None:
    closed = command.folder / "closed"
    closed.mkdir()
    (closed / "cat.jpg").write_bytes(b"cat")
    closed.chmod(0)
    try:
        ended = await command("media", "add", "shop", given)
    finally:
        closed.chmod(0o700)

    assert ended.code == 2
    assert "Permission denied" in ended.said
