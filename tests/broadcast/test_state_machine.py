"""What a person may request of a broadcast in each state, and its figures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from telewarm.broadcasts.progress import progress
from telewarm.broadcasts.state_machine import TRANSITIONS, Action, transition_from
from telewarm.errors import Conflict
from telewarm.models import BotId, Broadcast, BroadcastId, BroadcastState, DeliveryStatus, MessageSet

NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
DRAFT = Broadcast(
    id=BroadcastId(1), bot_id=BotId(1), group_id=None, name=None, message=MessageSet(text="x"), refusal=None,
    gate=False, state=BroadcastState.DRAFT, reason=None, per_second=None, recipients=200, duplicates=0, rejected=0,
    guess=None, counts={}, not_undone=0, in_flight=0, starts_at=None, created_at=NOON, started_at=None,
    ended_at=None,
)  # fmt: skip


@pytest.mark.parametrize("state", BroadcastState)
@pytest.mark.parametrize("action", Action)
def test_an_action_is_allowed_done_already_or_refused_with_the_cure(action: Action, state: BroadcastState) -> None:
    known, broadcast = TRANSITIONS[action], replace(DRAFT, state=state)
    if state in known.leaves:
        assert transition_from(action, broadcast) is known
    elif state in known.idle:
        assert transition_from(action, broadcast) is None
    else:
        with pytest.raises(Conflict, match=known.cures[state]):
            transition_from(action, broadcast)


@pytest.mark.parametrize(
    ("changed", "words"), [({"recipients": 0}, "has no recipients"), ({"guess": "two columns"}, "was guessed: two")]
)
def test_without_recipients_or_with_a_guess_it_does_not_start(changed: dict[str, int | str], words: str) -> None:
    with pytest.raises(Conflict, match=words):
        transition_from(Action.START, replace(DRAFT, **changed))  # type: ignore[arg-type]


def test_a_running_broadcast_has_a_rate_and_an_estimated_end() -> None:
    running = replace(DRAFT, state=BroadcastState.RUNNING, started_at=NOON, counts={DeliveryStatus.SENT: 50})
    found = progress(running, NOON + timedelta(seconds=10))
    assert (found.done, found.left, found.percent, found.per_second, found.eta_seconds) == (50, 150, 25.0, 5.0, 30.0)
    assert progress(running, NOON).per_second is None


def test_one_that_is_not_running_has_no_estimated_end_and_an_empty_one_no_share() -> None:
    ended = replace(
        DRAFT,
        state=BroadcastState.DONE,
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=4),
        counts={DeliveryStatus.SENT: 200},
    )
    assert (progress(ended, NOON).per_second, progress(ended, NOON).eta_seconds) == (50.0, None)
    assert progress(replace(DRAFT, recipients=0), NOON).percent == 0.0
