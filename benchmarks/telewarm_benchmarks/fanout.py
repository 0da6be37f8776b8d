"""Do many bots that share a warm-up chat upload a file once, and read it from the store once?

All of them have the same media, and all is asked for at the same moment, with nothing on local disk.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from telewarm import clock, metrics
from telewarm.demo.sandbox import SandboxProcess
from telewarm.models import Bot
from telewarm.runtime import Telewarm
from telewarm_benchmarks import stage
from telewarm_benchmarks.figures import Figure
from telewarm_benchmarks.stage import Report

MB = 1_000_000
FORM = 1.02  # what goes up in all may be this many times the files


async def measure(
    *,
    bots: int = 50,
    media: int = 20,
    size: int = 5 * MB,
    report: Report,
) -> list[Figure]:
    """`bots` with the same `media` photos of `size` bytes each, and one warm-up chat."""
    async with SandboxProcess.running() as sandbox, stage.fresh_folder() as folder:
        report(f"filling the libraries of {bots} bots with {media} photos of {size / MB:.3g} MB")
        async with stage.open_telewarm(sandbox.url, folder, worker=False) as app:
            names = [bot.slug for bot in await _fill(app, bots, media, size)]
        await asyncio.to_thread(_empty, folder / "spool" / "blobs")
        report(f"warming {bots * media} media")
        async with stage.open_telewarm(sandbox.url, folder, worker=False) as app:
            owners = [(await app.bots.by_slug(name)).bot for name in names]
            reads, started = _store_reads(), clock.monotonic()
            async with app.worker.running():
                await stage.ask_for_all(app, *owners)
                await stage.until_none_warming(app)
            seconds = clock.monotonic() - started
            reads = _store_reads() - reads
        return _figures(await sandbox.stats(), bots=bots, media=media, size=size, reads=reads, took=seconds)


async def _fill(app: Telewarm, bots: int, media: int, size: int) -> list[Bot]:
    """The bots, each with the same media, set aside."""
    owners = [await stage.add_bot(app, number, chats=[stage.warmup_chat(0)]) for number in range(bots)]
    for data in stage.photos(media, bytes=size):
        await stage.add(app, owners[0], data)
    for other in owners[1:]:
        await app.library.share(owners[0], other)
    await stage.set_aside(app)
    return owners


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _store_reads() -> float:
    """Blobs that this process had to get from the store."""
    return metrics.REGISTRY.get_sample_value("telewarm_disk_cache_reads_total", {"result": "miss"}) or 0.0


def _figures(total: Mapping[str, Any], *, bots: int, media: int, size: int, reads: float, took: float) -> list[Figure]:
    files, apart = media * size / MB, bots * media * size / MB
    rate = bots * media / took
    return [
        Figure(name="uploads", value=total["uploads"], most=media, beside=f"{bots * media} without forwarding"),
        Figure(
            name="bytes uploaded",
            value=total["upload_bytes"] / MB,
            unit="MB",
            most=FORM * files,
            beside=f"{apart:,.0f} MB without forwarding",
        ),
        Figure(name="forwards", value=total["forwards"], least=(bots - 1) * media),
        Figure(name="reads of the store", value=reads, most=media, beside=f"{media} files"),
        Figure(name="until all are ready", value=took, unit="s", beside=f"{rate:,.0f} media/s"),
    ]
