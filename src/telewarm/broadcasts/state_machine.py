"""State machine of a broadcast: allowed transitions, and the remedy where one is not allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from telewarm.errors import Conflict
from telewarm.models import Broadcast, BroadcastState

DRAFT, SCHEDULED = BroadcastState.DRAFT, BroadcastState.SCHEDULED
RUNNING, PAUSED = BroadcastState.RUNNING, BroadcastState.PAUSED
DONE, CANCELLED = BroadcastState.DONE, BroadcastState.CANCELLED
UNDOING, UNDONE = BroadcastState.UNDOING, BroadcastState.UNDONE
DELETABLE = frozenset({DRAFT, DONE, CANCELLED, UNDONE})
UNDO_WITHIN_SECONDS = 48 * 3600.0  # Telegram lets a bot delete its messages for 48 hours


class Action(StrEnum):
    """Action that a person may request."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    UNDO = "undo"
    RETRY = "retry"


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """`idle`: states in which the action is done already. `cures`: the remedy in the states that do not allow it."""

    state: BroadcastState
    leaves: frozenset[BroadcastState]
    idle: frozenset[BroadcastState] = frozenset()
    cures: Mapping[BroadcastState, str]


NOT_STARTED = "start it first"
NEVER_SENT = "it was never started, so nothing was sent"
NOT_BEGUN = "it has not begun, so nothing was sent; cancel it if it is not to begin"
ALREADY_ENDED = "create another to send the message again"
UNDO_RUNS = "what it sent is being deleted; that ends by itself"
IS_UNDONE = "what it sent has been deleted; create another to send the message again"

TRANSITIONS: Mapping[Action, Transition] = {
    Action.START: Transition(
        state=RUNNING,
        leaves=frozenset({DRAFT}),
        idle=frozenset({SCHEDULED, RUNNING}),
        cures={
            PAUSED: "resume it",
            DONE: ALREADY_ENDED,
            CANCELLED: ALREADY_ENDED,
            UNDOING: UNDO_RUNS,
            UNDONE: IS_UNDONE,
        },
    ),
    Action.PAUSE: Transition(
        state=PAUSED,
        leaves=frozenset({SCHEDULED, RUNNING}),
        idle=frozenset({PAUSED}),
        cures={
            DRAFT: "it is not being sent",
            DONE: "there is nothing left to pause",
            CANCELLED: "there is nothing left to pause",
            UNDOING: UNDO_RUNS,
            UNDONE: "there is nothing left to pause",
        },
    ),
    Action.RESUME: Transition(
        state=RUNNING,
        leaves=frozenset({PAUSED}),
        idle=frozenset({SCHEDULED, RUNNING}),
        cures={
            DRAFT: NOT_STARTED,
            DONE: ALREADY_ENDED,
            CANCELLED: ALREADY_ENDED,
            UNDOING: UNDO_RUNS,
            UNDONE: IS_UNDONE,
        },
    ),
    Action.CANCEL: Transition(
        state=CANCELLED,
        leaves=frozenset({DRAFT, SCHEDULED, RUNNING, PAUSED}),
        idle=frozenset({CANCELLED}),
        cures={DONE: "undo it to delete what it sent", UNDOING: UNDO_RUNS, UNDONE: "there is nothing left to cancel"},
    ),
    Action.UNDO: Transition(
        state=UNDOING,
        leaves=frozenset({DONE, CANCELLED}),
        idle=frozenset({UNDOING, UNDONE}),
        cures={
            DRAFT: NEVER_SENT,
            SCHEDULED: NOT_BEGUN,
            RUNNING: "cancel it first",
            PAUSED: "cancel it first",
        },
    ),
    Action.RETRY: Transition(
        state=RUNNING,
        leaves=frozenset({DONE, PAUSED}),
        cures={
            DRAFT: NEVER_SENT,
            SCHEDULED: NOT_BEGUN,
            RUNNING: "pause it first, or wait until it is done",
            CANCELLED: ALREADY_ENDED,
            UNDOING: UNDO_RUNS,
            UNDONE: IS_UNDONE,
        },
    ),
}


def transition_from(action: Action, broadcast: Broadcast) -> Transition | None:
    """Return the transition; None when it is done already. Raises Conflict with the remedy."""
    step = TRANSITIONS[action]
    if broadcast.state in step.idle:
        return None
    if broadcast.state not in step.leaves:
        raise Conflict(f"broadcast {broadcast.id} is {broadcast.state}: {step.cures[broadcast.state]}")
    if action is Action.START and not broadcast.recipients:
        raise Conflict(f"broadcast {broadcast.id} has no recipients: load a list of chat ids first")
    if action is Action.START and broadcast.guess is not None:
        raise Conflict(
            f"the column with the chat ids of broadcast {broadcast.id} was guessed: {broadcast.guess}. Look at its"
            " recipients and start it with `confirm` (on the command line --yes), or make another and give the column"
            " when you load its list"
        )
    return step
