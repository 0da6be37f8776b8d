"""Many file ids of a bot that die together: a look at the bot comes before anything is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from telewarm.database import media
from telewarm.errors import InvalidBotToken, TelegramUnreachable
from telewarm.models import MediaState
from telewarm.sandbox import Sandbox
from telewarm.sandbox.faults import Rule
from telewarm.sending.invalid_id_detector import MASS_INVALID_ITEMS
from tests.fixtures.app import READER, Opener
from tests.fixtures.sandbox import FIRST_BOT
from tests.sender.invalid_ids import invalid_ids, photos


async def test_ids_that_die_together_under_a_refused_token_are_kept_and_nothing_is_uploaded(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, 10)
    refused = sandbox.state.faults.add(
        Rule(action="error", code=401, description="Unauthorized", method="getMe", count=None)
    )
    for number in range(MASS_INVALID_ITEMS - 1):
        await sick.heal(number)

    for number in range(MASS_INVALID_ITEMS - 1, 10):
        with pytest.raises(InvalidBotToken, match="Unauthorized"):
            await sick.heal(number)

    assert await sick.states() == [MediaState.WARMING] * (MASS_INVALID_ITEMS - 1) + [MediaState.READY] * (
        11 - MASS_INVALID_ITEMS
    )
    assert refused.hit == 1
    assert sandbox.state.stats.total.uploads == 10


async def test_a_token_that_was_replaced_is_looked_at_anew(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, 4)
    sandbox.state.faults.add(Rule(action="error", code=401, description="Unauthorized", method="getMe"))
    await asyncio.gather(sick.heal(0), sick.heal(1))
    with pytest.raises(InvalidBotToken):
        await sick.heal(2)
    sick.session.api = (await telewarm_with(worker=False)).bots.sessions._make_api(sick.session.bot.token)

    assert await sick.heal(2) is not None
    assert await sick.heal(3) is not None
    assert sick.calls("getMe") == 3


async def test_ids_that_die_together_though_the_bot_is_the_same_are_healed_after_one_look(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, 10)

    copies = await asyncio.gather(*(sick.heal(number) for number in range(10)))

    assert all(copies)
    assert await sick.states() == [MediaState.WARMING] * 10
    assert sick.calls("getMe") == 2
    assert sandbox.state.stats.total.uploads == 10


async def test_a_send_by_id_that_works_is_a_sign_that_the_bot_is_well(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, 2 * MASS_INVALID_ITEMS)

    for number in range(2 * MASS_INVALID_ITEMS):
        await sick.heal(number)
        sick.healing.send_succeeded(sick.session)

    assert sick.calls("getMe") == 1


async def test_when_the_bot_has_become_another_all_its_ids_are_void(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, MASS_INVALID_ITEMS + 2)
    sandbox.state.bots.open(FIRST_BOT).id = FIRST_BOT + 70

    await asyncio.gather(*(sick.heal(number) for number in range(MASS_INVALID_ITEMS)))

    assert await sick.states() == [MediaState.WARMING] * (MASS_INVALID_ITEMS + 2)
    assert (await sick.telewarm.bots.get(sick.session.bot.id)).bot.telegram_id == FIRST_BOT + 70


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_look_that_finds_nobody_leaves_all_as_it_is_and_is_no_send(
    telewarm_with: Opener, sandbox: Sandbox, when: str
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, MASS_INVALID_ITEMS)
    await asyncio.gather(*(sick.heal(number) for number in range(MASS_INVALID_ITEMS - 1)))
    sandbox.state.faults.add(Rule(action="reset", when="after" if when == "after" else "before", method="getMe"))

    with pytest.raises(TelegramUnreachable) as caught:
        await sick.heal(MASS_INVALID_ITEMS - 1)

    assert caught.value.effect_possible is False
    assert (await sick.states())[-1] is MediaState.READY
    assert await sick.heal(MASS_INVALID_ITEMS - 1) is not None


async def test_under_a_revoked_token_no_id_is_forgotten_and_nothing_is_uploaded(
    telewarm_with: Opener, sandbox: Sandbox
) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, 5)
    sandbox.state.bots.open(sick.session.bot.telegram_id).revoked = True

    async with sick.sender() as sender:
        results = await sender.send(sick.session, READER, photos(*sick.items))

    assert [type(result.error) for result in results] == [InvalidBotToken] * 5
    assert [(await media.get(sick.telewarm.pool, item.id)).file_id for item in sick.items] == [
        item.file_id for item in sick.items
    ]
    assert sandbox.state.stats.total.uploads == 5  # the warm-ups


async def test_a_whole_set_of_dead_ids_reaches_its_recipient_by_copies(telewarm_with: Opener, sandbox: Sandbox) -> None:
    sick = await invalid_ids(telewarm_with, sandbox, 5)

    async with sick.sender() as sender:
        results = await sender.send(sick.session, READER, photos(*sick.items))

    assert [result.error for result in results] == [None] * 5
    assert (sick.messages, sick.calls("copyMessage"), sick.calls("getMe")) == (5, 5, 2)
    assert sandbox.state.stats.total.uploads == 5  # the warm-ups
