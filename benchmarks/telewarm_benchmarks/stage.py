"""What the benchmarks share: a fresh Telewarm on a sandbox, bots and photos for it, and a bare loop to stand beside."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import aiohttp
import msgspec

from telewarm import clock
from telewarm.database import media
from telewarm.database.lane_queue import enqueue_lane
from telewarm.demo.media import photo
from telewarm.errors import TelewarmError
from telewarm.models import Bot, ChatId, Kind, MediaItem, MediaState
from telewarm.runtime import Telewarm
from telewarm.settings import Settings

Report: TypeAlias = Callable[[str], None]  # one line on what is going on, for whoever waits

NO_FLOODS = {
    "TELEWARM_FLOOD_BOT_PER_SECOND": "100000",
    "TELEWARM_FLOOD_BOT_BURST": "100000",
    "TELEWARM_FLOOD_PRIVATE_PER_SECOND": "100000",
    "TELEWARM_FLOOD_PRIVATE_BURST": "100000",
    "TELEWARM_FLOOD_GROUP_PER_MINUTE": "1000000",
    "TELEWARM_FLOOD_GROUP_BURST": "100000",
    "TELEWARM_FLOOD_SPACING": "false",
}
TIMEOUT_SECONDS = 120.0  # seconds
POLL_SECONDS = 0.01  # seconds between looks whether the last item is warm

_seeds = itertools.count()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """`cpu_ms`: of this process, for each item."""

    per_second: float
    cpu_ms: float


@asynccontextmanager
async def fresh_folder() -> AsyncIterator[Path]:
    """A data folder of its own, gone at the end."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="telewarm-bench-"))
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def environment(sandbox_url: str, folder: Path, *, floods: bool = False, **changed: str) -> dict[str, str]:
    """The settings of such a Telewarm, for this process or another. `floods`: keep the usual flood limits."""
    usual = {"TELEWARM_DATA": str(folder), "TELEGRAM_API_ROOT": sandbox_url}
    return usual | ({} if floods else NO_FLOODS) | changed


@asynccontextmanager
async def open_telewarm(
    sandbox_url: str, folder: Path | None = None, *, worker: bool = True, floods: bool = False, **changed: str
) -> AsyncIterator[Telewarm]:
    """A Telewarm on an embedded PostgreSQL in the folder, by default a fresh one. `changed`: settings by name."""
    if folder is None:
        async with (
            fresh_folder() as fresh,
            open_telewarm(sandbox_url, fresh, worker=worker, floods=floods, **changed) as app,
        ):
            yield app
        return
    settings = Settings.from_environ(environment(sandbox_url, folder, floods=floods, **changed), None)
    async with Telewarm.open(settings, worker=worker, migrate=True) as app:
        yield app


def token(number: int) -> str:
    """Of the sandbox's `number`th bot: it takes any."""
    return f"{1_000_000_001 + number}:AAE{'bench' * 6}{number % 100:02}"


def warmup_chat(number: int) -> ChatId:
    """A channel of the sandbox, below zero as Telegram numbers them."""
    return ChatId(-1_001_000_000_001 - number)


async def add_bot(app: Telewarm, number: int = 0, *, chats: Sequence[ChatId] = ()) -> Bot:
    """`bench-<number>`, with a warm-up chat of its own unless some are given."""
    return await app.bots.create(
        slug=f"bench-{number}", token=token(number), warmup_chats=list(chats) or [warmup_chat(number)]
    )


def photos(count: int, *, bytes: int) -> Iterator[bytes]:  # noqa: A002 - the unit is the name
    """JPEGs of exactly so many bytes, 21,000 or more, no two alike in this process."""
    return (photo(next(_seeds), bytes=bytes) for _ in range(count))


async def add(
    app: Telewarm, bot: Bot, data: bytes, *, kind: Kind | None = Kind.PHOTO, name: str | None = None
) -> MediaItem:
    """Put bytes into the bot's library, as a user would: it is warming when this returns."""
    async with app.library.receive() as incoming:
        await incoming.write(data)
        return (await app.library.add(bot, incoming, kind=kind, name=name)).item


async def set_aside(app: Telewarm) -> None:
    """Nothing is due any more, until `ask_for_all`: a library that is filled before the clock starts."""
    await app.pool.execute("UPDATE media SET state = 'cold' WHERE state = 'warming'")


async def ask_for_all(app: Telewarm, *bots: Bot) -> None:
    """Everything that was set aside is due, and the bots' lanes are woken."""
    async with app.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE media SET state = 'warming', queued_at = now() WHERE state = 'cold'")
        for bot in bots:
            await enqueue_lane(connection, bot)


async def until_none_warming(app: Telewarm, *bots: Bot, patience: float = TIMEOUT_SECONDS) -> None:
    """Return when nothing of the bots, all of them by default, is warming. Raises TelewarmError when that takes
    longer than `patience` seconds, or when items ended in error: the figure would be void."""
    ids = [bot.id for bot in bots] or None
    mine = "($1::bigint[] IS NULL OR bot_id = ANY ($1))"
    deadline = clock.monotonic() + patience
    while await app.pool.fetchval(f"SELECT EXISTS (SELECT FROM media WHERE state = 'warming' AND {mine})", ids):  # noqa: S608
        if clock.monotonic() > deadline:
            raise TelewarmError(f"the media were not warm within {patience:.0f} s: the figure is void")
        await clock.sleep(POLL_SECONDS)
    words = await app.pool.fetchval(f"SELECT min(last_error) FROM media WHERE state = 'error' AND {mine}", ids)  # noqa: S608
    if words is not None:
        raise TelewarmError(f"some media could not be warmed, the figure is void: {words}")


async def until_ready(app: Telewarm, item: MediaItem, *, look: float = POLL_SECONDS) -> MediaItem:
    """The item once it is ready. Raises TelewarmError when it ends in error or takes longer than TIMEOUT_SECONDS."""
    deadline = clock.monotonic() + TIMEOUT_SECONDS
    while item.state is not MediaState.READY:
        if item.state is MediaState.ERROR or clock.monotonic() > deadline:
            raise TelewarmError(f"media item {item.id} is not ready, the figure is void: {item.last_error}")
        await clock.sleep(look)
        item = await media.get(app.pool, item.id)
    return item


def ready_ms(item: MediaItem) -> float:
    """Milliseconds from accepted to ready, by the database's clock."""
    if item.warmed_at is None or item.queued_at is None:
        raise TelewarmError(f"media item {item.id} is ready but has no times")
    return 1000 * (item.warmed_at - item.queued_at).total_seconds()


async def bare_loop(sandbox_url: str, files: Sequence[bytes], *, concurrency: int) -> Rate:
    """What aiohttp alone does: `concurrency` loops, each posting a form and reading the file id of the answer."""
    url = f"{sandbox_url}/bot{token(0)}/sendPhoto"
    left = iter(files)

    async def loop(session: aiohttp.ClientSession) -> None:
        for data in left:
            form = aiohttp.FormData({"chat_id": str(warmup_chat(0))})
            form.add_field("photo", data, filename="photo.jpg", content_type="image/jpeg")
            async with session.post(url, data=form) as answer:
                body = msgspec.json.decode(await answer.read())
                body["result"]["photo"][-1]["file_id"]

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency), timeout=timeout) as session:
        started, cpu = clock.monotonic(), time.process_time()
        await asyncio.gather(*(loop(session) for _ in range(concurrency)))
        return rate(len(files), started, cpu)


def rate(count: int, started: float, cpu: float) -> Rate:
    """Of so many items since `started` (monotonic) and `cpu` (process time)."""
    return Rate(per_second=count / (clock.monotonic() - started), cpu_ms=1000 * (time.process_time() - cpu) / count)
