"""How soon is new work of a bot acted on while something else of that bot waits?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from telewarm import clock
from telewarm.demo.sandbox import SandboxProcess
from telewarm.errors import TelewarmError
from telewarm.models import Bot, BroadcastId, BroadcastState, ChatId, MediaItem, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm_benchmarks import stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.stage import Report

SOON_SECONDS = 1.0  # the target
DISTANT_FUTURE = timedelta(days=1000)
STARTS_IN = timedelta(seconds=2)
SLOW_PER_SECOND = 0.005  # of a broadcast that has sent its first message and waits minutes for the second
FLOOD_WAIT_SECONDS = 600
POLL_SECONDS = 0.005  # seconds between looks
TIMEOUT_SECONDS = 60.0
PHOTO_BYTES = 30_000
RECIPIENT = ChatId(500_000_001)


@dataclass(kw_only=True, slots=True)
class Scene:
    """A bot without floods of its own, and the recipients used so far."""

    app: Telewarm
    bot: Bot
    sandbox: SandboxProcess
    recipients: int = 0

    def recipient(self) -> ChatId:
        self.recipients += 1
        return ChatId(RECIPIENT + self.recipients)

    async def broadcast(
        self, *, count: int = 1, per_second: float | None = None, later: timedelta | None = None
    ) -> int:
        session = await self.app.bots.get(self.bot.id)
        [made] = await self.app.broadcasts.create([session], MessageSet(text="hello"), per_second=per_second)
        await self.app.broadcasts.add(made.id, [self.recipient() for _ in range(count)])
        await self.app.broadcasts.start(made.id, starts_at=None if later is None else clock.now() + later)
        return made.id

    async def until(self, query: str, *arguments: object) -> None:
        deadline = clock.monotonic() + TIMEOUT_SECONDS
        while not await self.app.pool.fetchval(query, *arguments):
            if clock.monotonic() > deadline:
                raise TelewarmError(f"nothing came of it within {TIMEOUT_SECONDS:.0f} s: the figure is void")
            await clock.sleep(POLL_SECONDS)

    async def until_done(self, broadcast_id: int) -> None:
        await self.until(
            "SELECT state = $2 FROM broadcast WHERE id = $1", BroadcastId(broadcast_id), BroadcastState.DONE
        )

    async def photo(self) -> MediaItem:
        [data] = stage.photos(1, bytes=PHOTO_BYTES)
        return await stage.add(self.app, self.bot, data)

    async def until_asleep(self) -> None:
        """Its lane has given its place back."""
        await self.until("SELECT true FROM pgqueuer WHERE status = 'queued' AND execute_after > now() + interval '5 s'")


async def _scheduled(scene: Scene) -> None:
    await scene.broadcast(later=DISTANT_FUTURE)
    await scene.until_asleep()


async def _closed(scene: Scene) -> None:
    rule = {"action": "error", "code": 429, "retry_after": FLOOD_WAIT_SECONDS, "chat": scene.bot.warmup_chats[0]}
    await scene.sandbox.tell("faults", rules=[rule])
    await scene.photo()
    await scene.until_asleep()


async def _paced(scene: Scene) -> None:
    """As many broadcasts as are sent at once, and one more."""
    for _ in range(5):
        broadcast_id = await scene.broadcast(count=2, per_second=SLOW_PER_SECOND)
        await scene.until("SELECT sent = 1 FROM broadcast_run WHERE broadcast_id = $1", broadcast_id)


async def _media(scene: Scene) -> float:
    began = clock.monotonic()
    await stage.until_ready(scene.app, await scene.photo(), look=POLL_SECONDS)
    return clock.monotonic() - began


async def _broadcast(scene: Scene) -> float:
    began = clock.monotonic()
    await scene.until_done(await scene.broadcast())
    return clock.monotonic() - began


async def _at_its_time(scene: Scene) -> float:
    broadcast_id = await scene.broadcast(later=STARTS_IN)
    due = clock.monotonic() + STARTS_IN.total_seconds()
    await scene.until_done(broadcast_id)
    return max(0.0, clock.monotonic() - due)


async def _cold_send(scene: Scene) -> float:
    """Of an item that waits for the warm-up chat."""
    [row] = await scene.app.pool.fetch("SELECT id FROM media WHERE state = 'warming'")
    began = clock.monotonic()
    message = MessageSet(media=(Part(media_id=row["id"]),))
    [result] = await scene.app.send(scene.bot.slug, scene.recipient(), message)
    if result.error is not None:
        raise result.error
    return clock.monotonic() - began


Work = Callable[[Scene], Awaitable[float]]
CASES: tuple[tuple[str, Callable[[Scene], Awaitable[None]], dict[str, Work]], ...] = (
    (
        "a broadcast is scheduled for later",
        _scheduled,
        {"new media": _media, "a broadcast": _broadcast, "a broadcast at its time": _at_its_time},
    ),
    (
        "the warm-up chat is closed by a 429",
        _closed,
        {"a broadcast": _broadcast, "a broadcast at its time": _at_its_time, "a send of a cold item": _cold_send},
    ),
    ("five broadcasts wait for their pace", _paced, {"new media": _media, "a broadcast": _broadcast}),
)


async def measure(*, rounds: int = 5, report: Report) -> list[Figure]:
    """The longest of some rounds for each case, of a worker that sweeps once an hour: nothing but the wake-up helps."""
    figures = []
    for words, wait, works in CASES:
        for name, work in works.items():
            report(f"{name}, while {words}")
            longest = 0.0
            async with _scene() as scene:
                await wait(scene)
                for _ in range(rounds if work is not _cold_send else 1):
                    longest = max(longest, await work(scene))
            title = f"{name}, while {words}: seconds until it is done"
            figures.append(Figure(name=title, value=longest, unit="s", most=SOON_SECONDS))
    return figures


@asynccontextmanager
async def _scene() -> AsyncIterator[Scene]:
    async with (
        SandboxProcess.running() as sandbox,
        stage.open_telewarm(sandbox.url, MEDIA_PREWARM_INTERVAL_MS="3600000") as app,
    ):
        yield Scene(app=app, bot=await stage.add_bot(app), sandbox=sandbox)
