"""`telewarm bench …`."""

from __future__ import annotations

from typing import Annotated

import typer

from telewarm.cli.run import run
from telewarm.demo import bench_warmup

app = typer.Typer(
    help="Measure this machine: each figure beside a bare baseline of the same run.", no_args_is_help=True
)


@app.callback()
def bench() -> None:
    """Measure this machine: each figure beside a bare baseline of the same run."""


@app.command("warmup")
def warmup(
    *,
    photos: Annotated[int, typer.Option(min=10, help="Photos of 200 kB, in each round.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the medians are shown.")] = 3,
    concurrency: Annotated[list[int] | None, typer.Option(min=1, help="Warm-ups in flight; repeatable.")] = None,
    save: Annotated[typer.FileTextWrite | None, typer.Option(help="Keep the figures as JSON.")] = None,
) -> None:
    """Media a second of one bot's warm-ups, beside a bare aiohttp upload loop.

    The sandbox runs in a process of its own, without delay and without floods; the database is a fresh embedded one.
    """
    run(bench_warmup.bench(photos=photos, rounds=rounds, levels=concurrency or [5, 20], save=save))
