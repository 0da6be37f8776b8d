"""Commands on a database that is not theirs to change, or that they may not use."""

from __future__ import annotations

from tests.cli.conftest import Commands
from tests.database.test_ready import role, tables


async def test_commands_that_look_change_no_schema(command: Commands, empty_database_url: str) -> None:
    command.opener.database_url = empty_database_url
    for arguments in (("bot", "list"), ("token", "list"), ("media", "list", "shop"), ("broadcast", "list")):
        ended = await command(*arguments)
        assert ended.code == 1
        assert "telewarm migrate" in ended.said
    assert await tables(empty_database_url) == []
    await command.ok("migrate")
    await command.ok("bot", "list")


async def test_a_role_without_rights_is_one_sentence_on_the_command_line(command: Commands, database_url: str) -> None:
    async with role(database_url) as url:
        command.opener.database_url = url
        for arguments in (("bot", "list"), ("token", "list")):
            ended = await command.process(*arguments)
            assert ended.code == 1
            assert ended.said.startswith("DATABASE_FORBIDDEN The role role_")
            assert "Traceback" not in ended.said
