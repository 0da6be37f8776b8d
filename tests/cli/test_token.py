"""`telewarm token …` and `telewarm rotate-key`: on a real database, also one that serves meanwhile."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from telewarm import clock
from telewarm.api.token_cache import ApiTokenCache
from telewarm.cli import rotate, token
from telewarm.cli.rotate import KeyFiles
from telewarm.component_config import encryption_key
from telewarm.database import bots, token_encryption, tokens
from telewarm.database.connection import Connection
from telewarm.database.token_encryption import DecryptionFailed, TokenCipher, reencrypt
from telewarm.errors import Conflict, DatabaseError, NotFound, SettingsError, TelewarmError, UsageError
from telewarm.runtime import Telewarm
from tests.fixtures.app import Opener, add_bot

app = typer.Typer()
app.add_typer(token.app, name="token")
app.command("rotate-key")(rotate.rotate_key)


class Commands:
    """Runs commands with the environment of the test's Telewarms."""

    def __init__(self, opener: Opener, folder: Path) -> None:
        self.opener = opener
        self.folder = folder

    async def __call__(self, *arguments: str, **environ: str) -> Result:
        """Raises the error of ours that the command ended with."""
        result = await asyncio.to_thread(self._run, arguments, self.opener.environ(**environ))
        if isinstance(result.exception, TelewarmError):
            raise result.exception
        return result

    def _run(self, arguments: tuple[str, ...], environ: dict[str, str]) -> Result:
        return CliRunner().invoke(app, arguments, env={**environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture
def command(telewarm_with: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.chdir(tmp_path)
    for name in ("ENCRYPTION_KEY", "ADMIN_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return Commands(telewarm_with, tmp_path)


async def test_the_servers_own_token_is_shown_where_it_is_kept_and_as_it_was_given(
    command: Commands, telewarm_with: Opener
) -> None:
    made = await command("token", "show")
    kept = telewarm_with.data / "api.token"
    assert made.stdout == f"{kept.read_text()}\n"
    assert f"kept in {kept}" in made.stderr
    assert (await telewarm_with(worker=False)).server_token().secret == made.stdout.strip()
    given = await command("token", "show", ADMIN_API_TOKEN="the-admin-token-of-the-tests")
    assert (given.stdout, given.stderr) == ("the-admin-token-of-the-tests\n", "ADMIN_API_TOKEN\n")


async def test_a_token_made_on_the_command_line_opens_a_server_that_runs(
    command: Commands, idle_telewarm: Telewarm
) -> None:
    token_cache = ApiTokenCache(idle_telewarm.pool)
    async with token_cache.running():
        made = await command("token", "create", "ci", "--role", "operate", "--expires-in-days", "2")
        secret = made.stdout.strip()
        assert made.exit_code == 0
        assert (secret.startswith("tw_"), len(secret)) == (True, 46)
        assert "Token 'ci' (operate, valid until 20" in made.stderr
        async with asyncio.timeout(5):
            while (caller := await token_cache.find_principal(secret)) is None:
                await clock.sleep(0)
        assert (caller.name, caller.role) == ("ci", "operate")

        rotated = await command("token", "rotate", "ci", "--grace-s", "0")
        async with asyncio.timeout(5):
            while await token_cache.find_principal(rotated.stdout.strip()) is None:
                await clock.sleep(0)
        assert await token_cache.find_principal(secret) is None
        await command("token", "revoke", "ci")
        async with asyncio.timeout(5):
            while await token_cache.find_principal(rotated.stdout.strip()) is not None:
                await clock.sleep(0)


async def test_the_list_shows_all_but_the_tokens(command: Commands) -> None:
    secret = (await command("token", "create", "grafana", "--role", "read")).stdout.strip()
    shown = (await command("token", "list")).stdout
    assert all(word in shown for word in ("grafana", "read", "never"))
    assert secret not in shown
    assert tokens.hash_of(secret).hex() not in shown


async def test_what_cannot_be_is_told(command: Commands) -> None:
    await command("token", "create", "ci", "--role", "read")
    with pytest.raises(Conflict, match="choose another name"):
        await command("token", "create", "ci", "--role", "read")
    with pytest.raises(NotFound, match="nobody"):
        await command("token", "revoke", "nobody")
    assert (await command("token", "create", "x", "--role", "root")).exit_code == 2
    assert (await command("token", "create", "x")).exit_code == 2


@pytest.fixture
async def files(idle_telewarm: Telewarm) -> KeyFiles:
    """Of a data folder whose key seals two bots."""
    for number in range(2):
        await add_bot(idle_telewarm, number)
    return KeyFiles(idle_telewarm.settings.telewarm_data)


async def opens(telewarm: Telewarm, key: bytes) -> bool:
    """Whether the key opens every bot's token."""
    seal = TokenCipher(key)
    try:
        for slug in await bots.slugs(telewarm.pool):
            await bots.by_slug(telewarm.pool, seal, slug)
    except SettingsError:
        return False
    return True


def key_in(path: Path) -> bytes:
    return bytes.fromhex(path.read_text())


async def test_the_key_of_the_data_folder_is_replaced_and_every_token_opens_with_the_new_one(
    command: Commands, files: KeyFiles, idle_telewarm: Telewarm, telewarm_with: Opener
) -> None:
    old = key_in(files.current)
    result = await command("rotate-key", "--generate")

    new = key_in(files.current)
    assert result.exit_code == 0
    assert "2 tokens were re-encrypted with the new key" in result.stderr
    assert "Running processes on this data folder use it from now on" in result.stderr
    assert not any(key.hex() in result.output for key in (old, new))
    assert (await opens(idle_telewarm, new), await opens(idle_telewarm, old)) == (True, False)
    assert [path.name for path in files.folder.glob("encryption*")] == ["encryption.key"]
    assert files.current.stat().st_mode & 0o777 == 0o600
    assert (await (await telewarm_with(worker=False)).bots.by_slug("bot-0")).bot.username is not None


@pytest.mark.usefixtures("files")  # which add bots
async def test_a_running_process_goes_on_through_a_rotation_of_the_key_file(
    command: Commands, idle_telewarm: Telewarm, telewarm_with: Opener
) -> None:
    before = (await idle_telewarm.bots.by_slug("bot-0")).bot.token
    await command("rotate-key", "--generate")
    added = (await add_bot(idle_telewarm, 7)).bot  # sealed with the key of now

    idle_telewarm.bots.sessions.on_notification(str((await idle_telewarm.bots.by_slug("bot-0")).bot.id))
    assert (await idle_telewarm.bots.by_slug("bot-0")).bot.token == before
    assert (await idle_telewarm.bots.by_slug("bot-1")).bot.token  # not opened here before
    other = await telewarm_with(worker=False)
    assert (await other.bots.by_slug(added.slug)).bot.token == added.token


async def test_with_a_key_in_the_environment_known_bots_go_on_until_the_restart(
    command: Commands, telewarm_with: Opener
) -> None:
    old = "7f" * 32
    running = await telewarm_with(worker=False, ENCRYPTION_KEY=old)
    known = (await add_bot(running)).bot
    unknown = (await add_bot(await telewarm_with(worker=False, ENCRYPTION_KEY=old), 2)).bot
    await command("rotate-key", "--generate", ENCRYPTION_KEY=old)

    running.bots.sessions.on_notification(str(known.id))
    assert (await running.bots.get(known.id)).bot.token == known.token
    with pytest.raises(DecryptionFailed):
        await running.bots.get(unknown.id)


async def test_a_process_with_the_old_key_is_told_what_to_do(
    command: Commands, files: KeyFiles, telewarm_with: Opener
) -> None:
    old = files.current.read_text()
    await command("rotate-key", "--generate")
    stale = await telewarm_with(worker=False, ENCRYPTION_KEY=old)
    with pytest.raises(
        DecryptionFailed, match=r"After `telewarm rotate-key`, set the new key and start this process again"
    ):
        await stale.bots.by_slug("bot-0")


async def test_a_key_of_the_operators_own_is_taken_from_a_file(
    command: Commands, files: KeyFiles, idle_telewarm: Telewarm, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.key"
    mine.write_text("7f" * 32 + "\n")
    await command("rotate-key", "--new-key-file", str(mine))
    assert key_in(files.current) == bytes.fromhex("7f" * 32)
    assert await opens(idle_telewarm, key_in(files.current))
    with pytest.raises(UsageError, match="the one in use"):
        await command("rotate-key", "--new-key-file", str(mine))


async def test_a_key_in_the_environment_is_the_operators_to_change(
    command: Commands, telewarm_with: Opener, tmp_path: Path
) -> None:
    old, mine = "7f" * 32, tmp_path / "mine.key"
    telewarm = await telewarm_with(worker=False, ENCRYPTION_KEY=old)
    await add_bot(telewarm)
    files = KeyFiles(telewarm.settings.telewarm_data)

    result = await command("rotate-key", "--generate", ENCRYPTION_KEY=old)
    first = key_in(files.new)
    assert f"Set ENCRYPTION_KEY to what is in {files.new}" in result.stderr
    assert first.hex() not in result.output
    assert (await opens(telewarm, first), files.current.exists()) == (True, False)
    assert files.new.stat().st_mode & 0o777 == 0o600

    again = await command("rotate-key", "--generate", ENCRYPTION_KEY=old)  # as after a crash: the same key still
    assert ("0 tokens" in again.stderr, key_in(files.new)) == (True, first)

    mine.write_text("ab" * 32)
    result = await command("rotate-key", "--new-key-file", str(mine), ENCRYPTION_KEY=first.hex())
    assert "Set ENCRYPTION_KEY to the new key" in result.stderr
    assert await opens(telewarm, bytes.fromhex("ab" * 32))


@pytest.mark.parametrize("arguments", [(), ("--generate", "--new-key-file", "mine.key")])
async def test_one_source_of_the_new_key_is_asked_for(command: Commands, arguments: tuple[str, ...]) -> None:
    (command.folder / "mine.key").write_text("ab" * 32)
    with pytest.raises(UsageError, match="either --generate, or --new-key-file FILE"):
        await command("rotate-key", *arguments)


@pytest.mark.parametrize("text", ["", "hunter2", "ab" * 31, "ab" * 33, "\x00\xff"])
async def test_a_file_without_a_key_is_refused_and_not_repeated(
    command: Commands, files: KeyFiles, idle_telewarm: Telewarm, text: str
) -> None:
    before = key_in(files.current)
    (command.folder / "mine.key").write_text(text)
    with pytest.raises(SettingsError, match="exactly 64 hex digits") as caught:
        await command("rotate-key", "--new-key-file", "mine.key")
    assert not text or text not in str(caught.value)
    assert (key_in(files.current), await opens(idle_telewarm, before)) == (before, True)


async def test_a_token_that_nobody_can_open_leaves_everything_as_it_was(
    command: Commands, files: KeyFiles, idle_telewarm: Telewarm
) -> None:
    before = key_in(files.current)
    await idle_telewarm.pool.execute("UPDATE bot SET token_sealed = 'nonsense' WHERE slug = 'bot-1'")
    with pytest.raises(SettingsError, match="does not open the token of bot"):
        await command("rotate-key", "--generate")
    assert key_in(files.current) == before
    assert [path.name for path in files.folder.glob("encryption*")] == ["encryption.key"]
    await bots.by_slug(idle_telewarm.pool, TokenCipher(before), "bot-0")


async def test_a_database_that_refuses_leaves_everything_as_it_was(
    command: Commands, files: KeyFiles, idle_telewarm: Telewarm
) -> None:
    before = key_in(files.current)
    await idle_telewarm.pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON bot FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(DatabaseError, match="the old key holds"):
        await command("rotate-key", "--generate")
    assert (key_in(files.current), await opens(idle_telewarm, before)) == (before, True)
    assert [path.name for path in files.folder.glob("encryption*")] == ["encryption.key"]


async def interrupted(files: KeyFiles, telewarm: Telewarm, *, committed: bool) -> tuple[bytes, bytes]:
    """As a process leaves it that was killed on the way; the old and the new key."""
    old, new = key_in(files.current), os.urandom(32)
    files.old.write_text(old.hex())
    files.current.write_text(new.hex())
    if committed:
        async with telewarm.pool.acquire() as connection, connection.transaction():
            await reencrypt(connection, TokenCipher(old), TokenCipher(new))
    return old, new


@pytest.mark.parametrize("committed", [False, True])
async def test_what_was_interrupted_is_ended_by_running_it_again(
    command: Commands, files: KeyFiles, idle_telewarm: Telewarm, *, committed: bool
) -> None:
    await interrupted(files, idle_telewarm, committed=committed)
    await command("rotate-key", "--generate")
    assert await opens(idle_telewarm, key_in(files.current))
    assert [path.name for path in files.folder.glob("encryption*")] == ["encryption.key"]


@pytest.mark.parametrize("committed", [False, True])
async def test_settling_keeps_the_key_that_holds(files: KeyFiles, idle_telewarm: Telewarm, *, committed: bool) -> None:
    old, new = await interrupted(files, idle_telewarm, committed=committed)
    async with idle_telewarm.pool.acquire() as connection:
        await files.finish_interrupted(connection)
    assert (key_in(files.current), files.old.exists()) == (new if committed else old, False)
    assert await opens(idle_telewarm, encryption_key(idle_telewarm.settings))


async def test_two_rotations_at_once_do_not_mix(command: Commands, files: KeyFiles, idle_telewarm: Telewarm) -> None:
    async with idle_telewarm.pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", token_encryption.ADVISORY_LOCK_KEY)
        with pytest.raises(Conflict, match="another `telewarm rotate-key` is at work"):
            await command("rotate-key", "--generate")
        await connection.execute("SELECT pg_advisory_unlock($1)", token_encryption.ADVISORY_LOCK_KEY)
    assert await opens(idle_telewarm, key_in(files.current))


async def test_a_database_that_is_lost_at_the_commit_is_settled_by_the_next_run(
    command: Commands, files: KeyFiles, idle_telewarm: Telewarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(connection: Connection, old: TokenCipher, new: TokenCipher) -> int:
        count = await reencrypt(connection, old, new)
        await connection.execute("COMMIT")
        connection.terminate()
        return count

    with monkeypatch.context() as patched:
        patched.setattr(rotate, "reencrypt", lost)
        with pytest.raises(DatabaseError, match="run `telewarm rotate-key` again, which finds out what holds"):
            await command("rotate-key", "--generate")
    assert files.old.exists()
    async with idle_telewarm.pool.acquire() as connection:
        await files.finish_interrupted(connection)
    assert (await opens(idle_telewarm, key_in(files.current)), files.old.exists()) == (True, False)


@pytest.mark.parametrize("words", ["token", "token create", "token list", "token rotate", "token revoke", "rotate-key"])
async def test_each_command_says_what_it_does(command: Commands, words: str) -> None:
    result = await command(*words.split(), "--help")
    assert result.exit_code == 0
    assert len(result.output.split()) > 20
