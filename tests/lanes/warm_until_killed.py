"""A Telewarm process for tests that kill it; its environment comes as JSON in the first argument."""

from __future__ import annotations

import asyncio
import json
import sys

from telewarm.app import Telewarm
from telewarm.settings import Settings


async def main() -> None:
    async with Telewarm.open(Settings.from_environ(json.loads(sys.argv[1]), None)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
