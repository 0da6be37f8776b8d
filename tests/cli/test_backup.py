"""`telewarm backup` and `telewarm restore`, as people and scripts use them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Commands, ended
from tests.fixtures.app import add_bot, add_photos, until_ready


async def test_a_backup_goes_to_a_file_and_back_into_another_database(
    command: Commands, empty_database_url: str
) -> None:
    async with command.opener.stack:
        telewarm = await command.opener()
        await until_ready(telewarm, *await add_photos(telewarm, await add_bot(telewarm), 2))
    file = command.folder / "backup.tar"
    saved = await command.ok("backup", str(file), "--media")
    assert "2 files of media" in saved.said
    assert "with the encryption key: keep it secret" in saved.said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = await command("backup", str(file))
    assert (again.code, "exists already" in again.said) == (1, True)
    await command.ok("backup", str(file), "--media", "--force")
    refused = await command("restore", str(file))
    assert (refused.code, "--force" in refused.said) == (1, True)
    command.opener.database_url, command.opener.data = empty_database_url, command.folder / "elsewhere"
    restored = await command.ok("restore", str(file))
    assert "2 files of media" in restored.said
    assert "Its encryption key is in" in restored.said
    assert "bot-0" in (await command.ok("bot", "list")).out


async def test_an_archive_goes_through_a_pipe(command: Commands) -> None:
    async with command.opener.stack:
        await add_bot(await command.opener(worker=False))
    saving = await command.start("backup", "-")
    assert saving.stdin is not None
    archive, _ = await saving.communicate()
    restoring = await command.start("restore", "--force", "-")
    _, said = await restoring.communicate(archive)
    assert (saving.returncode, restoring.returncode) == (0, 0), said
    assert b"Restored the backup of" in said


async def test_what_is_no_archive_is_refused_in_one_sentence(command: Commands) -> None:
    (command.folder / "text.tar").write_text("hello")
    for name in ("0.jpg", "text.tar"):
        ended = await command("restore", str(command.folder / name))
        assert ended.code == 1
        assert "BACKUP_FAILED" in ended.said
        assert "no backup of Telewarm's" in ended.said
    missing = await command("restore", str(command.folder / "missing.tar"))
    assert (missing.code, "No such file" in missing.said) == (1, True)


async def test_there_is_nothing_to_save_in_an_empty_database(command: Commands, empty_database_url: str) -> None:
    command.opener.database_url = empty_database_url
    ended = await command("backup", str(command.folder / "backup.tar"))
    assert (ended.code, "There is nothing to back up" in ended.said) == (1, True)
    assert not (command.folder / "backup.tar").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
async def test_an_output_that_takes_only_a_part_is_told_as_such(command: Commands) -> None:
    async with command.opener.stack:
        await add_bot(await command.opener(worker=False))
    reader, writer = os.pipe()
    os.close(reader)
    for output in (writer, os.open("/dev/full", os.O_WRONLY)):
        try:
            saved = await ended(await command.start("backup", "-", stdout=output))
        finally:
            os.close(output)
        assert saved.code == 1
        assert "BACKUP_FAILED Standard output took only a part of the backup" in saved.said
        assert "Traceback" not in saved.said
        assert "Exception ignored" not in saved.said
