"""Send a photo to a chat: uploaded the first time, one small request every time after.

    BOT_TOKEN=123456789:ABC... WARMUP_CHAT=-1001234567890 CHAT=500000001 python examples/send.py photo.jpg

WARMUP_CHAT is a private channel in which the bot may post. No database is needed: one is started in the data folder.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from telewarm import MessageSet, Part, Settings, Telewarm, html


async def main(photo: Path) -> None:
    settings = Settings.from_environ(os.environ, Path(".env"))
    async with Telewarm.open(settings) as tw:
        if "shop" not in await tw.slugs():
            await tw.add_bot("shop", os.environ["BOT_TOKEN"], warmup_chats=[int(os.environ["WARMUP_CHAT"])])
        item = await tw.add("shop", photo)  # bytes that are there already are not kept twice
        caption = html("<b>{}</b>", photo.name)  # what is filled in is escaped
        message = MessageSet(media=[Part(media_id=item.id, caption=caption, parse_mode="HTML")], text="Hello!")
        for number in range(2):
            for result in await tw.send("shop", int(os.environ["CHAT"]), message):
                how = result.error or ("by its file id" if result.cache_hit else "sent")
                print(f"{number + 1}: {result.kind or 'text'} {result.message_id} {how}, {result.lat_ms:.0f} ms")


asyncio.run(main(Path(sys.argv[1])))
