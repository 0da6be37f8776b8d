"""Continuous parallelism, beside `concurrency / latency` and a bare loop; and how soon new work is acted on."""

from __future__ import annotations

import time

from telewarm import clock
from telewarm.demo.sandbox import SandboxProcess
from telewarm_benchmarks import stage, waiting
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.stage import Rate, Report

PHOTO_BYTES = 50_000
NODE = "the Node system: 2.4/s"  # on the same work


async def measure(
    *, photos: int = 250, latency_ms: float = 600, concurrency: int = 5, rounds: int = 5, report: Report
) -> list[Figure]:
    """The sandbox takes `latency_ms` milliseconds for each call, however many there are, and has no floods."""
    async with SandboxProcess.running("--latency-ms", str(latency_ms)) as sandbox:
        report(f"a bare loop, {concurrency} in flight")
        files = list(stage.photos(photos, bytes=PHOTO_BYTES))
        bare = await stage.bare_loop(sandbox.url, files, concurrency=concurrency)
        report(f"a lane, {concurrency} in flight")
        lane = await _lane(sandbox.url, photos, concurrency)
    ceiling = 1000 * concurrency / latency_ms
    name = f"{concurrency} in flight, {latency_ms:g} ms an upload: media a second"
    return [
        Figure(name=f"{name} beside concurrency / latency", value=lane.per_second / ceiling, least=0.98),
        Figure(name=f"{name} beside the bare loop", value=lane.per_second / bare.per_second, least=0.98),
        Figure(
            name="media a second",
            value=lane.per_second,
            unit="/s",
            beside=f"concurrency / latency: {ceiling:.2f}/s; bare loop: {bare.per_second:.2f}/s; {NODE}",
        ),
        *await waiting.measure(rounds=rounds, report=report),
    ]


async def _lane(sandbox_url: str, photos: int, concurrency: int) -> Rate:
    """From asking for a library that was set aside, with a worker that stands by, to the last file id."""
    async with stage.open_telewarm(sandbox_url, worker=False, MEDIA_PREWARM_CONCURRENCY=str(concurrency)) as app:
        bot = await stage.add_bot(app)
        for data in stage.photos(photos, bytes=PHOTO_BYTES):
            await stage.add(app, bot, data)
        await stage.set_aside(app)
        async with app.worker.running():
            started, cpu = clock.monotonic(), time.process_time()
            await stage.ask_for_all(app, bot)
            await stage.until_none_warming(app, bot)
            return stage.rate(photos, started, cpu)
