"""Dialog of `telewarm broadcast send`: message and list in one command, which may be repeated until it is done."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from telewarm.broadcasts.submissions import (
    AlreadySent,
    EarlierSubmission,
    LoadRecipients,
    PreparedSubmission,
    SubmissionResult,
    SubmissionState,
)
from telewarm.cli import drafting, lists
from telewarm.cli.asking import Terminal, open_terminal
from telewarm.cli.common import pluralize
from telewarm.cli.console import echo_err
from telewarm.cli.run import install_stop_event
from telewarm.errors import UsageError
from telewarm.models import BroadcastState
from telewarm.runtime import Telewarm


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitDialog:
    """`terminal`: None with --yes, or without a person.

    `stop`: set by the signal that ends the command, once the list is loaded; before that the signal interrupts the
    import.
    """

    telewarm: Telewarm
    prepared: PreparedSubmission
    terminal: Terminal | None
    yes: bool
    again: bool
    stop: asyncio.Event

    async def decide(self) -> SubmissionResult | None:
        """Decide with the person. Returns what is being sent; None for a no. Raises AlreadySent without a person."""
        earlier, submissions = self.prepared.earlier, self.telewarm.submissions
        if earlier is not None and earlier.state is SubmissionState.UNFINISHED:
            return await self._resume_earlier(earlier)
        if earlier is not None and not self.again:
            if self.terminal is None:
                raise AlreadySent(earlier)
            if await self.terminal.confirm(f"{earlier}. Send it once more?", self.stop, default=False):
                return await submissions.commit(self.prepared, again=True, confirm=True)
            await self._discard()
            return None
        if self.terminal is None and not self.yes:
            raise UsageError("nothing was sent: nobody is here to be asked; add --yes to send without asking")
        chats = pluralize(sum(one.recipients for one in self.prepared.broadcasts), "chat", "chats")
        if self.terminal is not None and not await self.terminal.confirm(
            f"Send it to {chats}?", self.stop, default=False
        ):
            await submissions.keep(self.prepared)
            echo_err(
                f"Nothing was sent; broadcast {self.prepared.broadcasts[0].id} is kept as a draft: start or delete it"
            )
            return None
        submitted = await submissions.commit(self.prepared, again=self.again, confirm=True)
        if submitted.resumed:  # another process was quicker
            echo_err(f"Broadcast {submitted.broadcasts[0].id} is the same, and was started just now. Going on with it.")
        return submitted

    async def _resume_earlier(self, earlier: EarlierSubmission) -> SubmissionResult | None:
        """Continue an earlier submission; a paused one only on confirmation, since there was a reason for the pause."""
        paused = [one for one in earlier.broadcasts if one.state is BroadcastState.PAUSED]
        if self.terminal is None:
            echo_err(f"{earlier}. {'It is paused.' if paused else 'Going on with it.'}")
        else:
            for one in paused:
                echo_err(f"Broadcast {one.id} is paused: {one.reason or 'somebody paused it'}")
            if not await self.terminal.confirm(f"{earlier}. Go on with it?", self.stop, default=True):
                await self._discard()
                return None
            for one in paused:
                await self.telewarm.broadcasts.resume(one.id)
        return await self.telewarm.submissions.commit(self.prepared)

    async def _discard(self) -> None:
        await self.telewarm.submissions.discard(self.prepared.ids)
        echo_err("Nothing was sent.")


async def submit(
    telewarm: Telewarm,
    options: drafting.BroadcastOptions,
    source: Path,
    fill: LoadRecipients,
    *,
    yes: bool,
    again: bool,
) -> tuple[SubmissionResult | None, asyncio.Event]:
    """Submit.

    Returns the result, and the event of the signal that ends the command. Raises UsageError without a person.
    """
    lists.check_readable(source)
    wanted = await drafting.build_request(telewarm, options)
    prepared = await telewarm.submissions.prepare(wanted.bots, wanted.message, fill, wanted.plan)
    try:
        stop = install_stop_event()
        with nullcontext() if yes else open_terminal(stdin_is_list=source == lists.STDIN) as person:
            return await SubmitDialog(
                telewarm=telewarm, prepared=prepared, terminal=person, yes=yes, again=again, stop=stop
            ).decide(), stop
    except BaseException:
        await telewarm.submissions.discard(prepared.ids)
        raise
