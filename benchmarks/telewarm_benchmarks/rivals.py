"""Who else sends a photo by its file id: a bare aiohttp loop, aiogram, python-telegram-bot. Each as its docs say."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import aiohttp
import msgspec

from telewarm import clock
from telewarm.models import ChatId
from telewarm_benchmarks import stage
from telewarm_benchmarks.stage import Rate

BARE, AIOGRAM, PTB = "bare aiohttp", "aiogram", "python-telegram-bot"
TIMEOUT = 60.0  # seconds

Send: TypeAlias = Callable[[ChatId], Awaitable[object]]


def here() -> list[str]:
    """Those that are installed, the bare loop first."""
    found = [name for name, module in ((AIOGRAM, "aiogram"), (PTB, "telegram")) if importlib.util.find_spec(module)]
    return [BARE, *found]


@asynccontextmanager
async def sender(name: str, url: str, file_id: str, *, concurrency: int) -> AsyncIterator[Send]:
    """One that sends the photo to a chat and reads the answer's message id."""
    opened = {BARE: _bare, AIOGRAM: _aiogram, PTB: _ptb}[name]
    async with opened(url, file_id, concurrency) as send:
        yield send


async def loop(send: Send, chats: Iterable[ChatId], *, concurrency: int) -> Rate:
    """`concurrency` loops over the chats, all of them in all."""
    left, count = iter(chats), 0

    async def one() -> None:
        nonlocal count
        for chat_id in left:
            await send(chat_id)
            count += 1

    started, cpu = clock.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(one())
    return stage.rate(count, started, cpu)


@asynccontextmanager
async def _bare(url: str, file_id: str, concurrency: int) -> AsyncIterator[Send]:
    target = f"{url}/bot{stage.token(0)}/sendPhoto"
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:

        async def send(chat_id: ChatId) -> None:
            async with session.post(target, json={"chat_id": chat_id, "photo": file_id}) as answer:
                msgspec.json.decode(await answer.read())["result"]["message_id"]

        yield send


@asynccontextmanager
async def _aiogram(url: str, file_id: str, concurrency: int) -> AsyncIterator[Send]:
    from aiogram import Bot
    from aiogram.client.session.aiohttp import AiohttpSession
    from aiogram.client.telegram import TelegramAPIServer

    session = AiohttpSession(limit=concurrency, api=TelegramAPIServer.from_base(url))
    async with Bot(stage.token(0), session=session) as bot:
        yield lambda chat_id: bot.send_photo(chat_id, file_id)


@asynccontextmanager
async def _ptb(url: str, file_id: str, concurrency: int) -> AsyncIterator[Send]:
    from telegram.request import HTTPXRequest

    from telegram import Bot

    request: Any = HTTPXRequest(connection_pool_size=concurrency, read_timeout=TIMEOUT, pool_timeout=TIMEOUT)
    async with Bot(stage.token(0), base_url=f"{url}/bot", request=request) as bot:
        yield lambda chat_id: bot.send_photo(chat_id, file_id)
