"""A Telewarm process that sends one media item to many chats at once, when a line on its standard input says so.

What to send comes as JSON in the first argument; the results go to standard output as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from telewarm.models import MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.settings import Settings


async def main() -> None:
    reported = json.loads(sys.argv[1])
    async with Telewarm.open(Settings.from_environ(reported["environ"], None), worker=False) as telewarm:
        session = await telewarm.bots.get(reported["bot_id"])
        message = MessageSet(media=(Part(media_id=reported["media_id"]),))
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        sent = await asyncio.gather(*(telewarm.sender.send(session, chat_id, message) for chat_id in reported["chats"]))
        say(json.dumps([{"message_id": one.message_id, "error": one.error and str(one.error)} for [one] in sent]))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
