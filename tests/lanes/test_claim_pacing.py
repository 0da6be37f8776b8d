"""How many jobs a lane claims follows how fast they go, and nothing that is due is left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telewarm.worker.claim_pacing import MAX_CLAIMED_AHEAD, MIN_CLAIM_INTERVAL_SECONDS, ClaimPacing


def claimed(pacing: ClaimPacing, *, held: int, now: float, due: int) -> int:
    """A claim of what is wanted from a queue with `due` jobs."""
    limit = pacing.wanted(held, now=now)
    if limit:
        pacing.begin(now=now)
        pacing.end(min(limit, due), limit=limit)
    return limit


def test_it_claims_more_the_faster_they_go_and_less_when_they_are_slow() -> None:
    pacing = ClaimPacing(concurrency=5, now=0.0)
    fast = [claimed(pacing, held=0, now=0.1 * step, due=1000) for step in range(1, 9)]
    assert fast == [10, 20, 40, 80, 160, 256, 256, 256]
    slow = [claimed(pacing, held=0, now=10 + 2.0 * step, due=1000) for step in range(6)]
    assert slow == [128, 64, 32, 16, 10, 10]


def test_nothing_is_claimed_while_enough_is_held_or_nothing_more_is_due() -> None:
    pacing = ClaimPacing(concurrency=5, now=0.0)
    assert pacing.wanted(6, now=0.0) == 0
    assert claimed(pacing, held=5, now=0.0, due=3) == 5
    assert pacing.wanted(0, now=100.0) == 0
    pacing.nudge()
    assert pacing.wanted(0, now=100.0) == 10


def test_work_that_comes_while_a_claim_is_made_is_claimed_next() -> None:
    pacing = ClaimPacing(concurrency=5, now=0.0)
    limit = pacing.wanted(0, now=0.0)
    pacing.begin(now=0.0)
    pacing.nudge()
    pacing.end(0, limit=limit)
    assert pacing.may_have_work


def test_a_postponed_claim_waits_for_its_time_for_news_or_for_an_answer() -> None:
    for act, at in ((ClaimPacing.nudge, 10 + MIN_CLAIM_INTERVAL_SECONDS), (ClaimPacing.resume, 10.0), (str, 100.0)):
        pacing = ClaimPacing(concurrency=5, now=0.0)
        pacing.postpone(100.0, now=10.0)
        act(pacing)
        assert pacing.wanted(0, now=at - 0.01) == (10 if act is ClaimPacing.resume else 0)
        assert pacing.wanted(0, now=at) == 10


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 300), st.integers(0, 300)), max_size=40), st.integers(1, 50))
def test_it_never_claims_more_than_it_may_hold(steps: list[tuple[float, int, int]], concurrency: int) -> None:
    pacing, now = ClaimPacing(concurrency=concurrency, now=0.0), 0.0
    for seconds, held, due in steps:
        now += seconds
        assert 0 <= claimed(pacing, held=held, now=now, due=due) <= max(MAX_CLAIMED_AHEAD, 2 * concurrency)
        pacing.nudge()
