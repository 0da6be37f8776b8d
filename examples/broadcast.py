"""Send one message to many chats: a list of chat ids, one a line, to everybody in it.

    BOT_TOKEN=123456789:ABC... WARMUP_CHAT=-1001234567890 python examples/broadcast.py photo.jpg chats.csv

Killed in the middle, it can be started again: nobody gets the message twice, and nobody is left out.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from telewarm import BroadcastState, MessageSet, Part, Settings, Telewarm

ACTIVE = {BroadcastState.RUNNING, BroadcastState.UNDOING}


async def lines(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


async def main(photo: Path, chats: Path) -> None:
    async with Telewarm.open(Settings.from_environ(os.environ, Path(".env"))) as tw:
        if "shop" not in await tw.slugs():
            await tw.add_bot("shop", os.environ["BOT_TOKEN"], warmup_chats=[int(os.environ["WARMUP_CHAT"])])
        item = await tw.add("shop", photo)
        [broadcast] = await tw.broadcast("shop", MessageSet(media=[Part(media_id=item.id, caption="For all of you")]))
        loaded = await tw.broadcasts.load(broadcast.id, lines(chats))
        print(f"{loaded.added} chats, {loaded.duplicates} twice, {loaded.rejected} lines without one")
        await tw.broadcasts.start(broadcast.id)
        while (broadcast := await tw.broadcasts.get(broadcast.id)).state in ACTIVE:
            print(f"{broadcast.done} of {broadcast.recipients}")
            await asyncio.sleep(1)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in broadcast.counts.items() if count)
        print(f"{broadcast.state}: {counts}")


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
