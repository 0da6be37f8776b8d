"""The demo: real media, two bots that share a warm-up chat, a sandbox in Telegram's place; warm them, send them."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from telewarm import clock, logs
from telewarm.bots.sessions import BotSession
from telewarm.database import media
from telewarm.database.embedded.server import database_url_for
from telewarm.database.pool import connect
from telewarm.demo.media import DemoFile, draw
from telewarm.demo.sandbox import SandboxProcess
from telewarm.errors import TelewarmError
from telewarm.folders import make_private
from telewarm.models import ChatId, MediaId, MediaItem, MediaState, MessageSet, Part
from telewarm.runtime import Telewarm
from telewarm.settings import Settings

WARMUP_CHAT = ChatId(-1001000000001)
FIRST_READER = 500_000_001  # the chats that get the media are people with made-up ids from here on
READERS = 3  # chats a media item goes to
LATENCY_MS = 80  # of the sandbox, about what a server in Europe sees
POLL_SECONDS = 0.05  # seconds between looks at the library while it warms
TIMEOUT_SECONDS = 120.0  # seconds until the demo gives up on a library that does not get warm
WIDTH = 118  # of what is printed where there is no terminal
DRAWN = "drawn-1"  # the folder of drawn media; a new name when what is drawn changes


@dataclass(kw_only=True, slots=True)
class Show:
    """Context of the demo: console, bots and files."""

    telewarm: Telewarm
    sandbox: SandboxProcess
    console: Console
    token: str = field(repr=False)
    bots: list[BotSession] = field(default_factory=list)
    items: dict[str, list[MediaId]] = field(default_factory=dict)  # by file name, one for each bot
    sends: dict[str, list[float]] = field(default_factory=dict)  # by file name, milliseconds

    def picture(self) -> str:
        """What was printed, as SVG."""
        svg = self.console.export_svg(title="make demo", clear=False)
        return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # nothing is fetched from elsewhere

    def explain(self, port: int) -> None:
        """How to play on."""
        url = f"http://127.0.0.1:{port}"
        first = next(iter(self.items.values()))[0]
        self.console.print(
            f"\nServing [bold]{url}[/] (documentation at {url}/docs) until Ctrl-C. Try:\n\n"
            f"  export TOKEN={self.token}\n"
            f'  curl -H "Authorization: Bearer $TOKEN" {url}/api/admin/media/{first}\n'
            f'  curl -H "Authorization: Bearer $TOKEN" -F kind=photo -F file=@your.jpg'
            f" {url}/api/admin/bots/shop/media\n"
            f"  curl -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\\n"
            f'    -d \'{{"chat_id": 42, "media": [{first}]}}\' {url}/api/admin/bots/shop/send\n',
            highlight=False,
            soft_wrap=True,
        )


@asynccontextmanager
async def running(folder: Path, stop: asyncio.Event) -> AsyncIterator[Show]:
    """Everything up, warmed, sent and shown; `folder` is the demo's own, `stop` ends it early."""
    started = clock.monotonic()
    logs.configure(log_format="auto", level="WARNING")
    console = Console(record=True, width=None if Console().is_terminal else WIDTH)
    token = secrets.token_urlsafe(24)
    console.print("[bold]Telewarm demo[/]: media on this machine, a sandbox in Telegram's place, no account anywhere.")
    async with AsyncExitStack() as stack:
        with console.status("Starting PostgreSQL and the sandbox, drawing media"):
            async with asyncio.TaskGroup() as group:
                drawing = group.create_task(asyncio.to_thread(_drawn, folder))
                group.create_task(_fresh_library(folder))
                sandbox = await stack.enter_async_context(
                    SandboxProcess.running("--floods", "telegram", "--latency-ms", str(LATENCY_MS))
                )
            settings = Settings.from_environ(
                {"TELEWARM_DATA": str(folder), "TELEGRAM_API_ROOT": sandbox.url, "ADMIN_API_TOKEN": token}, None
            )
            telewarm = await stack.enter_async_context(Telewarm.open(settings, migrate=True))
        show = Show(telewarm=telewarm, sandbox=sandbox, console=console, token=token)
        await _play(show, drawing.result(), stop, started)
        yield show


async def _play(show: Show, files: Sequence[DemoFile], stop: asyncio.Event, started: float) -> None:
    for number, slug in enumerate(("shop", "news"), start=1):
        bot = await show.telewarm.bots.create(
            slug=slug, token=f"{1000000000 + number}:{secrets.token_urlsafe(26)[:35]}", warmup_chats=[WARMUP_CHAT]
        )
        show.bots.append(await show.telewarm.bots.get(bot.id))
    await _warm(show, files, stop, started)
    if not stop.is_set():
        await _send(show)
        show.console.print(await _table(show, files))
        stats = await show.sandbox.stats()
        bytes_each = sum(file.path.stat().st_size for file in files)
        show.console.print(
            f"The sandbox saw {stats['messages']} messages, {stats['forwards']} of them forwards, and answered 429 to "
            f"{stats['floods']}.\nUploads: {_size(stats['upload_bytes'])}, thumbnails included; "
            f"without file ids {_size(bytes_each * (len(show.bots) + READERS))}.",
            highlight=False,
        )


async def _warm(show: Show, files: Sequence[DemoFile], stop: asyncio.Event, started: float) -> None:
    """Add every file to both bots, and watch until all are warm."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=show.console) as progress:
        bars = [progress.add_task(f"{session.bot.slug}: warming", total=len(files)) for session in show.bots]
        first: float | None = None
        adding = asyncio.create_task(_add_all(show, files), name="add the demo media")
        try:
            while clock.monotonic() - started < TIMEOUT_SECONDS and not stop.is_set():
                done = [await media.count_by_state_of_bot(show.telewarm.pool, session.bot.id) for session in show.bots]
                for bar, counts in zip(bars, done, strict=True):
                    progress.update(bar, completed=counts.get(MediaState.READY, 0))
                if first is None and any(counts.get(MediaState.READY) for counts in done):
                    first = clock.monotonic() - started
                if all(counts.get(MediaState.READY) == len(files) for counts in done):
                    break
                if adding.done():
                    adding.result()
                await clock.wait(stop, POLL_SECONDS)
            else:
                if not stop.is_set():
                    raise TelewarmError(
                        f"the demo's media did not get warm within {TIMEOUT_SECONDS:.0f} s; the log says why"
                    )
        finally:
            adding.cancel()
            await asyncio.wait([adding])
    if first is not None:
        show.console.print(f"The first media item was warm {first:.1f} s after the start.", highlight=False)


async def _add_all(show: Show, files: Sequence[DemoFile]) -> None:
    for file in files:
        for session in show.bots:
            added = await show.telewarm.library.add_file(session.bot, file.path, kind=file.kind, name=file.name)
            show.items.setdefault(file.name, []).append(added.item.id)


async def _send(show: Show) -> None:
    """Each item of the first bot to three chats, by file id, all at once."""
    chats = iter(range(FIRST_READER, FIRST_READER + READERS * len(show.items)))
    sends = [(name, ids[0], ChatId(next(chats))) for name, ids in show.items.items() for _ in range(READERS)]

    async def send(name: str, media_id: MediaId, chat_id: ChatId) -> None:
        message = MessageSet(media=(Part(media_id=media_id),))
        for result in await show.telewarm.sender.send(show.bots[0], chat_id, message):
            if result.error is not None:
                raise result.error
            show.sends.setdefault(name, []).append(result.lat_ms)

    with show.console.status(f"Sending {len(sends)} messages by file id"):
        async with asyncio.TaskGroup() as group:
            for one in sends:
                group.create_task(send(*one))


async def _table(show: Show, files: Sequence[DemoFile]) -> Table:
    table = Table(title=f"Warmed once, then sent by file id (the sandbox takes {LATENCY_MS} ms for each call)")
    table.add_column("kind", no_wrap=True)
    table.add_column("file", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    for session in show.bots:
        table.add_column(f"bot {session.bot.slug}")
        table.add_column("warm-up ms", justify="right")
    table.add_column("send ms", justify="right")
    table.add_column("uploads seen by the sandbox", justify="right")
    for file in files:
        items = [await media.get(show.telewarm.pool, media_id) for media_id in show.items[file.name]]
        warmed: list[str] = []
        for item in items:
            warmed += [str(item.way), f"{_warmup_ms(item):.0f}"]
        uploads = await show.sandbox.uploads_of(items[0].file_id or "")
        sent = f"{median(show.sends[file.name]):.0f}"
        table.add_row(file.kind, file.name, f"{items[0].facts.bytes:,}", *warmed, sent, str(uploads))
    return table


def _warmup_ms(item: MediaItem) -> float:
    """From accepted to ready."""
    if item.warmed_at is None or item.queued_at is None:
        return 0.0
    return 1000 * (item.warmed_at - item.queued_at).total_seconds()


def _drawn(folder: Path) -> list[DemoFile]:
    """The demo's media; drawn the first time only."""
    drawn = folder / DRAWN
    make_private(folder)
    drawn.mkdir(exist_ok=True)
    return draw(drawn)


async def _fresh_library(folder: Path) -> None:
    """The last sandbox's file ids are gone with it: start with an empty library."""
    for left in ("media", "spool"):
        await asyncio.to_thread(shutil.rmtree, folder / left, ignore_errors=True)
    async with database_url_for(None, folder) as database:
        connection = await connect(database, application_name="telewarm demo")
        try:
            await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        finally:
            await connection.close()


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
