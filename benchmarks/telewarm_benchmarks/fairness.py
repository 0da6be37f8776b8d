"""Do bots notice that another one, on the same worker, has a huge backlog and waits for a flood to end?

Small streams of photos run through many bots, with and without that one, in turn; what counts is from queued to ready.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from telewarm import clock
from telewarm.database.lane_queue import enqueue_lane
from telewarm.demo.sandbox import SandboxProcess
from telewarm.errors import TelewarmError
from telewarm.models import Bot, MediaId, Sha256
from telewarm.runtime import Telewarm
from telewarm.storage.keys import blob_key
from telewarm_benchmarks import stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.stage import Report

LATENCY_MS = 50
PHOTO_BYTES = 21_000
RAMP_UP_SECONDS = 1.0  # seconds that a fresh worker has before the first photo arrives
COLD = (
    "UPDATE media SET state = 'cold', file_id = NULL, file_unique_id = NULL, sent_kind = NULL, way = NULL,"
    " warmup_chat = NULL, warmup_message_id = NULL, warmed_at = NULL, attempts = 0, next_attempt_at = NULL"
    " WHERE state <> 'cold'"
)
QUEUED = "UPDATE media SET state = 'warming', queued_at = now() WHERE"
PILE = (
    "INSERT INTO blob (sha256, bytes, mime, ext, storage_key)"
    " SELECT sha256, $3, 'text/plain', 'txt', key FROM unnest($1::text[], $2::text[]) AS file (sha256, key)"
)
OWN = "INSERT INTO media (bot_id, sha256, kind, state) SELECT $1, unnest($2::text[]), 'document', 'cold'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """`arriving`: what the bots that are measured get, in this order and within `spread` seconds.

    `busy`: those that they should not notice, by the seconds that the sandbox tells them to wait.
    """

    app: Telewarm
    sandbox: SandboxProcess
    arriving: Sequence[tuple[Bot, MediaId]]
    spread: float
    busy: Mapping[int, Bot]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Milliseconds from queued to ready."""

    p50: float
    p95: float


async def measure(
    *,
    bots: int = 199,
    photos: int = 10,
    spread: float = 20.0,
    backlog: int = 10_000,
    waits: Sequence[int] = (30, 3),
    rounds: int = 3,
    report: Report,
) -> list[Figure]:
    """`bots` get `photos` each within `spread` seconds, and so without and with a bot that has `backlog` media due.

    `waits`: the seconds it is told to wait, one after the other. Its lane leaves for a long wait, and sits out one of
    up to five seconds. Takes about `rounds * (1 + len(waits)) * spread` seconds.
    """
    found: dict[int | None, list[Wait]] = {seconds: [] for seconds in (None, *waits)}
    async with (
        SandboxProcess.running("--latency-ms", str(LATENCY_MS)) as sandbox,
        stage.open_telewarm(sandbox.url, worker=False) as app,
    ):
        report(f"filling the libraries of {bots} bots, and one of {backlog:,} media")
        arriving = await _arriving(app, bots, photos)
        busy = await _busy(app, waits, backlog)
        scene = Scene(app=app, sandbox=sandbox, arriving=arriving, spread=spread, busy=busy)
        report("a rehearsal")
        await _stream(scene, None)
        for number in range(rounds):
            for seconds in list(found)[:: -1 if number % 2 else 1]:  # to and fro: a slow minute hits both
                with_whom = "alone" if seconds is None else f"beside a backlog told to wait {seconds} s"
                report(f"round {number + 1} of {rounds}: {with_whom}")
                found[seconds].append(await _stream(scene, seconds))
    return [figure for seconds in waits for figure in _figures(seconds, found[None], found[seconds])]


async def _arriving(app: Telewarm, bots: int, photos: int) -> list[tuple[Bot, MediaId]]:
    """In the order in which they arrive: the same in each round."""
    owners = await asyncio.gather(*(stage.add_bot(app, number) for number in range(bots)))
    arriving = [
        (bot, (await stage.add(app, bot, data)).id)
        for bot in owners
        for data in stage.photos(photos, bytes=PHOTO_BYTES)
    ]
    random.Random(7).shuffle(arriving)  # noqa: S311 - no secret
    return arriving


async def _busy(app: Telewarm, waits: Sequence[int], backlog: int) -> dict[int, Bot]:
    """A bot for each wait, each with all of the same small documents in its library, set aside."""
    files = [f"document {number:012}".encode() for number in range(backlog)]
    names = [Sha256(hashlib.sha256(data).hexdigest()) for data in files]
    keys = [blob_key(name, "txt") for name in names]
    await asyncio.to_thread(_write, app.settings.store_folder, dict(zip(keys, files, strict=True)))
    await app.pool.execute(PILE, names, keys, len(files[0]))
    busy = {seconds: await stage.add_bot(app, 1_000_000 + seconds) for seconds in waits}
    for bot in busy.values():
        await app.pool.execute(OWN, bot.id, names)
    return busy


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for key, data in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


async def _stream(scene: Scene, seconds: int | None) -> Wait:
    """Let everything arrive once, on a fresh worker; `seconds`: beside the bot that is told to wait so long."""
    app = scene.app
    await app.pool.execute(COLD)
    await app.pool.execute("VACUUM (ANALYZE) media")
    if seconds is not None:
        await _make_busy(scene, seconds)
    async with app.worker.running():
        if seconds is not None:
            await _until_flooded(scene, scene.busy[seconds])
        await clock.sleep(RAMP_UP_SECONDS)
        await _arrive(scene)
        await stage.until_none_warming(app, *{bot.id: bot for bot, _ in scene.arriving}.values())
    await scene.sandbox.tell("faults", clear=True)
    return await _waited(scene)


async def _make_busy(scene: Scene, seconds: int) -> None:
    """Its whole backlog is due, and each upload will be answered with a flood wait."""
    bot = scene.busy[seconds]
    rule = {"action": "error", "code": 429, "retry_after": seconds, "bot": bot.telegram_id, "count": None}
    await scene.sandbox.tell("faults", rules=[rule])
    async with scene.app.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"{QUEUED} bot_id = $1", bot.id)
        await enqueue_lane(connection, bot)


async def _until_flooded(scene: Scene, bot: Bot) -> None:
    before = await _floods(scene, bot)
    deadline = clock.monotonic() + stage.TIMEOUT_SECONDS
    while await _floods(scene, bot) == before:
        if clock.monotonic() > deadline:
            raise TelewarmError("the busy bot never met its flood: the figure is void")
        await clock.sleep(stage.POLL_SECONDS)


async def _floods(scene: Scene, bot: Bot) -> int:
    return int((await scene.sandbox.stats())["bots"].get(str(bot.telegram_id), {}).get("floods", 0))


async def _arrive(scene: Scene) -> None:
    """One after the other, evenly over the time there is."""
    started = clock.monotonic()
    pace = scene.spread / len(scene.arriving)
    for number, (bot, media_id) in enumerate(scene.arriving):
        await clock.sleep(started + number * pace - clock.monotonic())
        async with scene.app.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"{QUEUED} id = $1", media_id)
            await enqueue_lane(connection, bot)


async def _waited(scene: Scene) -> Wait:
    rows = await scene.app.pool.fetch(
        "SELECT 1000 * extract(epoch FROM warmed_at - queued_at)::float8 AS ms FROM media WHERE id = ANY ($1)",
        [media_id for _, media_id in scene.arriving],
    )
    cuts = quantiles([row["ms"] for row in rows], n=20)
    return Wait(p50=cuts[9], p95=cuts[18])


def _figures(seconds: int, without: Sequence[Wait], beside: Sequence[Wait]) -> list[Figure]:
    name = f"told to wait {seconds} s"
    p50 = [(one.p50, other.p50) for one, other in zip(beside, without, strict=True)]
    p95 = [(one.p95, other.p95) for one, other in zip(beside, without, strict=True)]
    return [_figure(f"{name}: p95 of the others", p95, most=1.3), _figure(f"{name}: p50 of the others", p50, most=None)]


def _figure(name: str, pairs: Sequence[tuple[float, float]], *, most: float | None) -> Figure:
    """How many times what it is without. Medians over the rounds."""
    with_it, without = (median(one[side] for one in pairs) for side in (0, 1))
    times = median(one / other for one, other in pairs)
    return Figure(name=name, value=times, unit="x", most=most, beside=f"{with_it:.0f} ms, alone {without:.0f} ms")
