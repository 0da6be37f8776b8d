"""What a bot's limits turned out to be outlives the process, but not the setting it was learned under."""

from __future__ import annotations

from telewarm.bots.learned_limits import plausible_limits, with_settings
from telewarm.flood_control.limits import BotLimits
from telewarm.flood_control.limits import RateLimit as OurLimit
from telewarm.sandbox import Sandbox
from telewarm.sandbox.config import Floods, Limit
from tests.fixtures.app import Opener, add_bot, add_photos, until, until_ready

TWENTY = BotLimits(group=OurLimit(rate=20 / 60, burst=20))
TEN = BotLimits(group=OurLimit(rate=10 / 60, burst=10))


def test_what_was_learned_is_believed_under_the_same_settings_only() -> None:
    kept = with_settings({"group": 40.0}, TWENTY)

    assert plausible_limits(kept, TWENTY) == {"group": 40.0}
    assert plausible_limits(kept, TEN) == {}
    assert plausible_limits({"group": 40.0}, TWENTY) == {}


async def test_a_bot_keeps_what_was_learned_of_its_limits(telewarm_with: Opener, sandbox: Sandbox) -> None:
    changed = {"TELEWARM_FLOOD_GROUP_PER_MINUTE": "600", "TELEWARM_FLOOD_GROUP_BURST": "10"}
    sandbox.state.configure(floods=Floods(group=Limit(count=5, seconds=1)))
    first = await telewarm_with(changed)
    session = await add_bot(first)
    await until_ready(first, *await add_photos(first, session, 12))

    async def kept() -> bool:
        return (await first.pool.fetchval("SELECT learned ->> 'group' FROM bot")) is not None

    await until(first, kept)
    second = await telewarm_with(changed, worker=False)
    assert (await second.bots.get(session.bot.id)).limiter.learned == session.limiter.learned
    assert session.limiter.learned["group"] < 10
