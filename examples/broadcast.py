"""Send one message to many chats: a list of chat ids, one a line, to everybody in it.

    BOT_TOKEN=123456789:ABC... WARMUP_CHAT=-1001234567890 python examples/broadcast.py photo.jpg chats.csv

Killed in the middle, start it again: it goes on with the same photo and list where it was, and nobody gets it twice.
Finished, it says so and sends nothing; with --again as the last word it sends it once more.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from telewarm import AlreadySent, BroadcastState, MessageSet, Part, Settings, Telewarm

ACTIVE = {BroadcastState.RUNNING, BroadcastState.UNDOING}


async def main(photo: Path, chats: Path, *, again: bool) -> None:
    async with Telewarm.open(Settings.from_environ(os.environ, Path(".env"))) as tw:
        if "shop" not in await tw.slugs():
            await tw.add_bot("shop", os.environ["BOT_TOKEN"], warmup_chats=[int(os.environ["WARMUP_CHAT"])])
        item = await tw.add("shop", photo)
        message = MessageSet(media=[Part(media_id=item.id, caption="For all of you")])
        try:
            submitted = await tw.submit("shop", message, chats, again=again)
        except AlreadySent as error:
            print(error)
            return
        loaded, [broadcast] = submitted.loaded, submitted.broadcasts
        print(f"{loaded.added} chats, {loaded.duplicates} twice, {loaded.rejected} lines without one")
        if submitted.resumed:
            print(f"broadcast {broadcast.id} is unfinished: going on with it")
        while (broadcast := await tw.broadcasts.get(broadcast.id)).state in ACTIVE:
            print(f"{broadcast.done} of {broadcast.recipients}")
            await asyncio.sleep(1)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in broadcast.counts.items() if count)
        print(f"{broadcast.state}: {counts}")


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), again="--again" in sys.argv[3:]))
