"""What one worker holds in memory is bounded, and every lane has its part of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telewarm.worker.work import ClaimBudget


def test_a_lane_alone_may_have_all_of_it() -> None:
    budget = ClaimBudget(500)
    share = budget.share(least=5)
    with share.joined():
        assert share.take(1000) == 500
        share.give_back(500)


def test_each_of_many_lanes_has_an_equal_part() -> None:
    budget = ClaimBudget(500)
    shares = [budget.share(least=5) for _ in range(10)]
    for share in shares:
        budget.join(share)
    assert [share.take(1000) for share in shares] == [50] * 10
    assert shares[0].take(1) == 0

    budget.leave(shares[9])
    shares[9].give_back(50)
    assert shares[0].take(1000) == 5


def test_a_lane_may_always_keep_its_concurrency_busy_as_long_as_there_is_budget() -> None:
    budget = ClaimBudget(20)
    shares = [budget.share(least=5) for _ in range(100)]
    for share in shares:
        budget.join(share)
    assert [share.take(5) for share in shares[:5]] == [5, 5, 5, 5, 0]


def test_what_comes_back_is_for_the_lane_with_empty_hands() -> None:
    budget = ClaimBudget(3)
    rich, other, poor = (budget.share(least=3) for _ in range(3))
    with rich.joined(), other.joined(), poor.joined():
        assert (rich.take(2), other.take(2), poor.take(2)) == (2, 1, 0)
        reported: list[str] = []
        poor.call_when_freed(lambda: reported.append("poor"))

        rich.give_back(1)

        assert reported == ["poor"]
        assert rich.take(1) == other.take(1) == 0
        assert poor.take(2) == 1
        assert rich.take(1) == 0
        for share in (rich, other, poor):
            share.give_back(1)


def test_when_a_lane_leaves_the_others_hear_that_there_is_more() -> None:
    budget = ClaimBudget(10)
    one, other = budget.share(least=1), budget.share(least=1)
    reported: list[str] = []
    with one.joined():
        with other.joined():
            assert one.take(10) == 5
            one.call_when_freed(lambda: reported.append("more"))
        assert reported == ["more"]
        assert one.take(10) == 5
        one.give_back(10)


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 4), st.integers(-20, 20)), max_size=60))
def test_no_more_is_held_than_there_is_and_it_all_comes_back(most: int, steps: list[tuple[int, int]]) -> None:
    budget = ClaimBudget(most)
    shares = [budget.share(least=2) for _ in range(5)]
    for share in shares:
        budget.join(share)
    for lane, count in steps:
        if count > 0:
            before = shares[lane].held
            assert shares[lane].take(count) <= max(2, most // 5) or before < 0
        else:
            shares[lane].give_back(min(-count, shares[lane].held))
        assert 0 <= sum(share.held for share in shares) <= most
    for share in shares:
        share.give_back(share.held)
        budget.leave(share)
    assert budget.take(10**9) == most
