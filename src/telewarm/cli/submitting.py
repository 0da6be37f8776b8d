"""`telewarm broadcast send`: message and list in one command, which may be repeated until it is done."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from telewarm.broadcasts.submissions import (
    AlreadySent,
    EarlierSubmission,
    Fill,
    PreparedSubmission,
    SubmissionState,
    Submitted,
)
from telewarm.cli import drafting, lists
from telewarm.cli.asking import Terminal, terminal
from telewarm.cli.common import pluralize
from telewarm.cli.console import echo_err
from telewarm.cli.run import stop_event
from telewarm.errors import UsageError
from telewarm.models import BroadcastState
from telewarm.runtime import Telewarm


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitDialog:
    """`person`: None with --yes, or where nobody is. `stop` is set by the signal that ends the command, once the list
    is loaded; before that it breaks it off.
    """

    telewarm: Telewarm
    prepared: PreparedSubmission
    person: Terminal | None
    yes: bool
    again: bool
    stop: asyncio.Event

    async def decide(self) -> Submitted | None:
        """What is being sent now; None when the person said no. Raises AlreadySent where nobody is to be asked."""
        earlier, submissions = self.prepared.earlier, self.telewarm.submissions
        if earlier is not None and earlier.standing is SubmissionState.UNFINISHED:
            return await self._go_on(earlier)
        if earlier is not None and not self.again:
            if self.person is None:
                raise AlreadySent(earlier)
            if await self.person.agrees(f"{earlier}. Send it once more?", self.stop, default=False):
                return await submissions.commit(self.prepared, again=True, confirm=True)
            await self._leave()
            return None
        if self.person is None and not self.yes:
            raise UsageError("nothing was sent: nobody is here to be asked; add --yes to send without asking")
        chats = pluralize(sum(one.recipients for one in self.prepared.broadcasts), "chat", "chats")
        if self.person is not None and not await self.person.agrees(f"Send it to {chats}?", self.stop, default=False):
            await submissions.keep(self.prepared)
            echo_err(
                f"Nothing was sent; broadcast {self.prepared.broadcasts[0].id} is kept as a draft: start or delete it"
            )
            return None
        submitted = await submissions.commit(self.prepared, again=self.again, confirm=True)
        if submitted.resumed:  # another process was quicker
            echo_err(f"Broadcast {submitted.broadcasts[0].id} is the same, and was started just now. Going on with it.")
        return submitted

    async def _go_on(self, earlier: EarlierSubmission) -> Submitted | None:
        """One that is paused goes on only when a person says so: somebody, or something, had a reason."""
        paused = [one for one in earlier.broadcasts if one.state is BroadcastState.PAUSED]
        if self.person is None:
            echo_err(f"{earlier}. {'It is paused.' if paused else 'Going on with it.'}")
        else:
            for one in paused:
                echo_err(f"Broadcast {one.id} is paused: {one.reason or 'somebody paused it'}")
            if not await self.person.agrees(f"{earlier}. Go on with it?", self.stop, default=True):
                await self._leave()
                return None
            for one in paused:
                await self.telewarm.broadcasts.resume(one.id)
        return await self.telewarm.submissions.commit(self.prepared)

    async def _leave(self) -> None:
        await self.telewarm.submissions.discard(self.prepared.ids)
        echo_err("Nothing was sent.")


async def submit(
    telewarm: Telewarm, draft: drafting.BroadcastOptions, source: Path, fill: Fill, *, yes: bool, again: bool
) -> tuple[Submitted | None, asyncio.Event]:
    """And the event of the signal that ends the command. Raises UsageError where nobody is there to be asked."""
    lists.check(source)
    wanted = await drafting.wanted_of(telewarm, draft)
    prepared = await telewarm.submissions.prepare(wanted.bots, wanted.message, fill, wanted.plan)
    try:
        stop = stop_event()
        with nullcontext() if yes else terminal(stdin_is_list=source == lists.STDIN) as person:
            return await SubmitDialog(
                telewarm=telewarm, prepared=prepared, person=person, yes=yes, again=again, stop=stop
            ).decide(), stop
    except BaseException:
        await telewarm.submissions.discard(prepared.ids)
        raise
