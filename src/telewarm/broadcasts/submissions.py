"""Idempotent submission of a message to a list: repeated, it continues the unfinished broadcast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import structlog

from telewarm import coercion
from telewarm.bots.registry import BotRegistry
from telewarm.bots.sessions import BotSession
from telewarm.broadcasts.plans import SendPlan, check_plan, check_time
from telewarm.broadcasts.recipient_import import ImportResult
from telewarm.broadcasts.service import BroadcastService
from telewarm.broadcasts.state_machine import Action, transition_from
from telewarm.cures import Cure
from telewarm.database import broadcasts, submissions
from telewarm.database.connection import Connection, Executor, Pool
from telewarm.database.lane_queue import enqueue_lane
from telewarm.database.leases import ProcessLease
from telewarm.database.retry import log_transient
from telewarm.errors import Conflict, NotFound, UsageError
from telewarm.models import Broadcast, BroadcastId, BroadcastState, ChatId, DeliveryStatus, MessageSet

log = structlog.get_logger(__name__)

REPEAT_WINDOW = timedelta(days=1)  # after the end of a broadcast; the same submission within it needs a confirmation
CHUNK_BYTES = 1 << 20  # bytes read from a file at once
DEFAULT_PLAN = SendPlan()
Recipients: TypeAlias = str | PathLike[str] | bytes | AsyncIterator[bytes] | Iterable[int]
LoadRecipients: TypeAlias = Callable[[BroadcastId], Awaitable[ImportResult]]  # loads the list into the draft
UNFINISHED_STATES = frozenset({BroadcastState.SCHEDULED, BroadcastState.RUNNING, BroadcastState.PAUSED})
ENDED_STATES = frozenset({BroadcastState.DONE, BroadcastState.CANCELLED})
REACHED_OUTCOMES = (DeliveryStatus.SENT, DeliveryStatus.PARTIAL, DeliveryStatus.UNKNOWN)


class SubmissionState(StrEnum):
    """State of an earlier, equal submission: unfinished; scheduled for another time; finished not long ago."""

    UNFINISHED = "unfinished"
    OTHER_TIME = "other_time"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierSubmission:
    """The broadcasts of an earlier submission of the same message to the same list by the same bots."""

    state: SubmissionState
    broadcasts: Sequence[Broadcast]

    @property
    def reached(self) -> int:
        """Number of recipients that have or may have received it."""
        return sum(one.counts[outcome] for one in self.broadcasts for outcome in REACHED_OUTCOMES)

    @property
    def recipients(self) -> int:
        """Number of recipients."""
        return sum(one.recipients for one in self.broadcasts)

    def __str__(self) -> str:
        ids = ", ".join(str(one.id) for one in self.broadcasts)
        which = f"Broadcast{'s' if len(self.broadcasts) > 1 else ''} {ids} to the same list with the same message"
        said = f"{self.reached:,} of {self.recipients:,} sent"
        many = len(self.broadcasts) > 1
        match self.state:
            case SubmissionState.UNFINISHED:
                return f"{which} {'are' if many else 'is'} unfinished ({said})"
            case SubmissionState.OTHER_TIME:
                at = self.broadcasts[0].starts_at
                when = "now" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M %Z}"
                return f"{which} {'are' if many else 'is'} to start at another time ({when})"
            case SubmissionState.FINISHED:
                ended = max(one.ended_at for one in self.broadcasts if one.ended_at is not None)
                return f"{which} ended at {ended.astimezone():%Y-%m-%d %H:%M %Z} ({said})"


class AlreadySent(Conflict):
    """The same message was sent or is scheduled to the same list: `earlier`. With `again` it is sent once more."""

    def __init__(self, earlier: EarlierSubmission) -> None:
        super().__init__(
            f"{earlier}. Nothing was sent",
            by_face=Cure(
                library="to send it once more all the same, say again=True",
                cli="to send it once more all the same, add --again",
                api="to send it once more all the same, make it under another Idempotency-Key",
            ),
        )
        self.earlier = earlier


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedSubmission:
    """Drafts with the list, and an earlier equal submission. To be committed or discarded by the caller."""

    ids: Sequence[BroadcastId]
    broadcasts: Sequence[Broadcast]  # those with recipients
    loaded: ImportResult
    starts_at: datetime | None
    fingerprint: bytes
    earlier: EarlierSubmission | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionResult:
    """`resumed`: an earlier equal submission is continued, and nothing new was created."""

    broadcasts: Sequence[Broadcast]
    loaded: ImportResult
    resumed: bool


def find_earlier(groups: Sequence[Sequence[Broadcast]], *, starts_at: datetime | None) -> EarlierSubmission | None:
    """Return the earlier submission that a new one repeats, from those of one fingerprint, newest first. Pure.

    A start time is part of the request: the same message may be scheduled for several days.
    """
    unfinished = [group for group in groups if any(one.state in UNFINISHED_STATES for one in group)]
    for group in unfinished:
        if group[0].starts_at == starts_at or (starts_at is None and _has_started(group)):
            return EarlierSubmission(state=SubmissionState.UNFINISHED, broadcasts=group)
    if unfinished:
        return EarlierSubmission(state=SubmissionState.OTHER_TIME, broadcasts=unfinished[0])
    for group in groups:
        found = EarlierSubmission(state=SubmissionState.FINISHED, broadcasts=group)
        if found.reached and all(one.state in ENDED_STATES for one in group):
            return found
    return None


def _check_recipients(given: object) -> None:
    """Raise UsageError for what is not a list of recipients."""
    if not isinstance(given, str | PathLike | AsyncIterator | Iterable) or isinstance(given, Mapping):
        raise UsageError(
            f"recipients must be the path of a list, its bytes, or chat ids, not {coercion.describe_value(given)}"
        )


def _has_started(group: Sequence[Broadcast]) -> bool:
    return any(one.started_at is not None for one in group)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


class SubmissionService:
    """Submissions in two steps: `prepare` loads, `commit` sends. `sweep` removes drafts of processes that died."""

    def __init__(self, *, pool: Pool, lease: ProcessLease, bots: BotRegistry, broadcasts: BroadcastService) -> None:
        self._pool = pool
        self._bots = bots
        self._lease = lease
        self._broadcasts = broadcasts

    async def submit(
        self,
        bots: Sequence[BotSession],
        message: MessageSet,
        recipients: Recipients,
        plan: SendPlan = DEFAULT_PLAN,
        *,
        again: bool = False,
        confirm: bool = False,
        column: str | None = None,
    ) -> SubmissionResult:
        """Send the message to a list: a file, a stream of bytes, or chat ids. `column`: as in `BroadcastService.load`.

        An equal, unfinished submission is continued: nobody receives the message twice. Raises AlreadySent when an
        equal one finished within a day, or is scheduled for another time, unless `again`; Conflict when the column of
        the list was guessed, unless `confirm`; UsageError, NotFound.
        """
        coercion.text("column", column)
        _check_recipients(recipients)
        prepared = await self.prepare(bots, message, partial(self._fill, recipients, column), plan)
        try:
            return await self.commit(prepared, again=again, confirm=confirm)
        except BaseException:
            await self.discard(prepared.ids)
            raise

    async def prepare(
        self,
        bots: Sequence[BotSession],
        message: MessageSet,
        fill: LoadRecipients,
        plan: SendPlan = DEFAULT_PLAN,
    ) -> PreparedSubmission:
        """Create drafts and let `fill` load the list.

        Raises UsageError for a list without a chat id; no draft is left then.
        """
        check_plan(bots, plan)
        await submissions.delete_abandoned(self._pool)
        made = await self._broadcasts.drafts.create(bots, message, plan, loader=self._lease.id)
        ids = [one.id for one in made]
        try:
            loaded = await fill(ids[0])
            filled = [one for one in await broadcasts.get_many(self._pool, ids) if one.recipients]
            if not filled:
                raise UsageError("the list holds no chat id: nothing was sent")
            fingerprint = await submissions.fingerprint(self._pool, filled)
            return PreparedSubmission(
                ids=ids,
                broadcasts=filled,
                loaded=loaded,
                starts_at=plan.starts_at,
                fingerprint=fingerprint,
                earlier=await self._earlier(self._pool, fingerprint, plan.starts_at),
            )
        except BaseException:
            await self.discard(ids)
            raise

    async def commit(
        self, prepared: PreparedSubmission, *, again: bool = False, confirm: bool = False
    ) -> SubmissionResult:
        """Start the drafts, or continue an equal, unfinished submission.

        Raises AlreadySent unless `again`, UsageError for a start time that has passed, Conflict when another process
        has removed the drafts as those of a dead process.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await submissions.lock(connection, prepared.fingerprint)
            earlier = await self._earlier(connection, prepared.fingerprint, prepared.starts_at)
            resumed = earlier is not None and earlier.state is SubmissionState.UNFINISHED
            if earlier is not None and not resumed and not again:
                raise AlreadySent(earlier)
            if not resumed:
                check_time(prepared.starts_at)
                for one in [] if confirm else prepared.broadcasts:
                    transition_from(Action.START, one)
                await self._start(connection, prepared)
        self._broadcasts.on_change()
        kept = {one.id for one in prepared.broadcasts} if not resumed else set()
        await self.discard([one for one in prepared.ids if one not in kept])
        going = earlier.broadcasts if earlier is not None and resumed else prepared.broadcasts
        log.info("broadcast_submitted", broadcast_ids=[one.id for one in going], resumed=resumed)
        now = await broadcasts.get_many(self._pool, [one.id for one in going])
        return SubmissionResult(broadcasts=now, loaded=prepared.loaded, resumed=resumed)

    async def discard(self, ids: Sequence[BroadcastId]) -> None:
        """Delete drafts that are not to be sent. While the database is unavailable they wait for a later `sweep`."""
        for broadcast_id in ids:
            with log_transient("draft_kept", broadcast_id=broadcast_id):
                await asyncio.shield(self._discard(broadcast_id))

    async def keep(self, prepared: PreparedSubmission) -> None:
        """Keep the drafts, for a person to start or delete."""
        await submissions.keep_as_drafts(self._pool, [one.id for one in prepared.broadcasts])
        kept = {one.id for one in prepared.broadcasts}
        await self.discard([one for one in prepared.ids if one not in kept])

    async def _fill(self, recipients: Recipients, column: str | None, broadcast_id: BroadcastId) -> ImportResult:
        if isinstance(recipients, str | PathLike):
            recipients = _chunks(Path(recipients))
        elif isinstance(recipients, bytes | bytearray | memoryview):  # iterated, they are numbers: chats 0 to 255
            recipients = _pieces(bytes(recipients))
        if isinstance(recipients, AsyncIterator):
            return await self._broadcasts.load(broadcast_id, recipients, column=column)
        return await self._broadcasts.add(broadcast_id, map(ChatId, recipients))

    async def _discard(self, broadcast_id: BroadcastId) -> None:
        with suppress(NotFound, Conflict):  # started meanwhile, or deleted
            await self._broadcasts.delete(broadcast_id, only_drafts=True)

    async def _start(self, connection: Connection, prepared: PreparedSubmission) -> None:
        wanted = [one.id for one in prepared.broadcasts]
        started = await submissions.start(connection, wanted, prepared.fingerprint)
        if len(started) < len(wanted):
            raise Conflict("the list that was loaded is gone, because this process stood still for long: send it again")
        for one in prepared.broadcasts:
            await enqueue_lane(connection, (await self._bots.get(one.bot_id)).bot)

    async def _earlier(self, db: Executor, fingerprint: bytes, starts_at: datetime | None) -> EarlierSubmission | None:
        groups = await submissions.find_earlier(db, fingerprint, ended_within_seconds=REPEAT_WINDOW.total_seconds())
        return find_earlier(groups, starts_at=starts_at)
