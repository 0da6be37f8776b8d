"""An error's cure is told as a call to programs, as a command on the command line, and as a route by the HTTP API."""

from __future__ import annotations

import pytest

from telewarm import NotFound, Telewarm
from telewarm.cures import Interface
from telewarm.errors import TelewarmError
from tests.fixtures.app import READER, add_bot

ROUTES = ("/api/admin", "POST ", "GET ")
COMMANDS = ("`telewarm ", "--")


async def errors_of(telewarm: Telewarm) -> list[TelewarmError]:
    await add_bot(telewarm)
    await telewarm.delete_bot("bot-0")
    found: list[TelewarmError] = []
    for asked in (
        telewarm.send("bot-0", READER, "so"),
        telewarm.send("nobody", READER, "so"),
        telewarm.send("no body\0", READER, "so"),
        telewarm.undelete_bot("nobody"),
        telewarm.get(4711),
        telewarm.broadcasts.get(4711),  # type: ignore[arg-type]  # an int, as programs have it
        telewarm.add_bot("bot-0", "1:x", warmup_chats=[1]),
    ):
        with pytest.raises(TelewarmError) as raised:
            await asked
        found.append(raised.value)
    return found


async def test_each_face_has_its_own_cure(idle_telewarm: Telewarm) -> None:
    found = [error for error in await errors_of(idle_telewarm) if isinstance(error, NotFound)]
    assert len(found) == 6
    for error in found:
        library, command, route = str(error), error.message_for(Interface.CLI), error.message_for(Interface.API)
        assert "`tw." in library
        assert not any(word in library for word in (*ROUTES, *COMMANDS))
        assert "`telewarm " in command
        assert not any(word in command for word in ("tw.", *ROUTES))
        assert "/api/admin" in route
        assert not any(word in route for word in ("tw.", *COMMANDS))
        assert library.partition("; ")[0] == command.partition("; ")[0] == route.partition("; ")[0]
