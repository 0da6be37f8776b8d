"""Whole bots with a backlog, in virtual time, against a server that counts literally."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telewarm.sandbox.config import Floods
from tests.telegram.simulation import GROUPS, PEOPLE, Simulation, scaled

TELEGRAM = Floods.telegram()
MINUTES = 6


@pytest.mark.parametrize("chats", [1, 4, 16])
@pytest.mark.parametrize("times", [0.5, 1.0, 2.0])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
@pytest.mark.slow
def test_a_bot_uses_what_telegram_really_allows_and_is_hardly_ever_refused(chats: int, times: float, seed: int) -> None:
    outcome = Simulation(chats=GROUPS[:chats], floods=scaled(TELEGRAM, times), seed=seed).run(60 * MINUTES + 10)

    ceiling = min(30 * times, chats * 20 * times / 60)
    if times == 1:
        assert outcome.share_of(ceiling, since=0, until=60 * MINUTES) >= 0.95
        assert outcome.refusals() < 0.01
        assert outcome.learned.get("group", 20) == 20
    else:
        assert outcome.share_of(ceiling, since=60, until=60 * MINUTES) >= 0.9
        assert outcome.refusals(since=60) < 0.03
        assert outcome.learned["group"] == 20 * times


networks = st.builds(
    Simulation,
    chats=st.integers(1, 8).map(lambda count: PEOPLE[:count]),
    floods=st.sampled_from([0.34, 0.5, 1, 2]).map(lambda times: scaled(TELEGRAM, times)),
    seed=st.integers(0, 2**32),
    latency=st.floats(0.02, 0.6),
    jitter=st.floats(0, 0.2),
    in_flight=st.integers(1, 20),
)


@settings(max_examples=5, deadline=None)
@given(networks)
def test_whatever_the_network_it_stays_near_the_ceiling_of_private_chats(bot: Simulation) -> None:
    """Of windows so short the network takes its part: nobody knows when in between a message counts."""
    outcome = bot.run(300)

    assert bot.floods.bot is not None
    assert bot.floods.private is not None
    of_the_chats = len(bot.chats) * bot.floods.private.count / 3
    of_the_network = bot.in_flight / (bot.latency + bot.jitter / 2 + bot.back)
    ceiling = min(bot.floods.bot.count, of_the_chats, of_the_network)
    assert outcome.share_of(ceiling, since=60, until=300) >= 0.8
    assert outcome.refusals(since=60) < 0.04


def test_a_stray_429_costs_little() -> None:
    outcome = Simulation(chats=GROUPS[:4], floods=TELEGRAM, unknown_objects={30.0: 5.0, 130.0: 5.0}).run(370)

    assert outcome.share_of(80 / 60, since=0, until=360) >= 0.9
    assert outcome.learned.get("group", 20) == 20
