"""The start of a bot: small photos over warm-up chats that have had nothing yet, on a server that counts each chat's
second (about one a second, bursts of three) and its minute (20)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, replace

from telewarm import clock
from telewarm.demo.sandbox import SandboxProcess
from telewarm.sandbox import Floods
from telewarm.sandbox.config import Limit
from telewarm_benchmarks import stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.stage import Report

CHATS = 8
PHOTO_BYTES = 21_000
LATENCY_MS = 80.0
TIMEOUT_SECONDS = 600.0  # seconds


def fastest(messages: int, limits: Sequence[Limit]) -> float:
    """Seconds after the first of so many messages to one chat at which the last may go."""
    times: list[float] = []
    for number in range(messages):
        before = (times[number - limit.count] + limit.seconds for limit in limits if number >= limit.count)
        times.append(max(before, default=0.0))
    return times[-1]


async def measure_start(photos: int, *, report: Report) -> list[Figure]:
    """How near to the fastest that the server lets pass, and how often a call is answered 429."""
    floods = replace(Floods.telegram(), private=None)
    limits = [limit for limit in (floods.group, floods.group_second) if limit is not None]
    async with (
        SandboxProcess.running("--latency-ms", str(LATENCY_MS)) as sandbox,
        stage.open_telewarm(sandbox.url, worker=False, floods=True) as app,
    ):
        await sandbox.tell("config", floods=asdict(floods))
        bot = await stage.add_bot(app, chats=list(itertools.islice(map(stage.warmup_chat, itertools.count()), CHATS)))
        report(f"filling the library: {photos} photos for {CHATS} fresh chats")
        for data in stage.photos(photos, bytes=PHOTO_BYTES):
            await stage.add(app, bot, data)
        await stage.set_aside(app)
        started = clock.monotonic()
        async with app.worker.running():
            await stage.ask_for_all(app, bot)
            report(f"sending to {CHATS} fresh chats")
            await stage.until_none_warming(app, bot, patience=TIMEOUT_SECONDS)
        seconds = clock.monotonic() - started
        seen = (await sandbox.stats())["bots"][str(bot.telegram_id)]
    calls, refused = seen["messages"] + seen["floods"], seen["floods"]
    least = fastest(-(-photos // CHATS), limits) + LATENCY_MS / 1000
    return [
        Figure(
            name=f"{CHATS} fresh chats: share of the ceiling",
            value=least / seconds,
            least=0.95,
            beside=f"{photos} photos in {seconds:.1f} s; {least:.1f} s at best",
        ),
        Figure(
            name=f"{CHATS} fresh chats: calls answered 429",
            value=refused / max(1, calls),
            most=0.03,
            beside=f"{refused} of {calls}",
        ),
    ]
