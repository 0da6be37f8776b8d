"""`telewarm bench …`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import typer
from rich.console import Console

from telewarm import logs
from telewarm.cli.run import run
from telewarm_benchmarks import everything, figures

T = TypeVar("T")

HELP = (
    "Measure this machine: each figure beside its target and a bare baseline of the same run.\n\n"
    "Everything runs on a sandbox in Telegram's place and on embedded databases in temporary folders. Read the ratios, "
    "since machines differ, and run alone on a quiet machine. The exit code is 1 when a target is missed at full size."
)

SmallOption: TypeAlias = Annotated[bool, typer.Option("--small", help="A quick look: seconds, and proof of nothing.")]
SaveOption: TypeAlias = Annotated[Path | None, typer.Option(dir_okay=False, help="Keep the figures as JSON.")]

app = typer.Typer(help=HELP, no_args_is_help=True)


def command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a benchmark's command with what the catalogue says of it."""
    bench = everything.BY_NAME[name]
    return app.command(name, help=f"{bench.what}\n\nTakes about {bench.takes} at full size.", short_help=bench.what)


@command("warmup")
def warmup(
    *,
    photos: Annotated[int | None, typer.Option(min=10, help="Photos of 200 kB, in each round. [500]")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds; the medians are shown. [7]")] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option(min=1, help="Warm-ups in flight; repeatable. [5, 20]")
    ] = None,
    small: SmallOption = False,
    save: SaveOption = None,
) -> None:
    run_benchmark("warmup", small=small, save=save, photos=photos, rounds=rounds, levels=concurrency or None)


@command("latency")
def latency(*, small: SmallOption = False, save: SaveOption = None) -> None:
    run_benchmark("latency", small=small, save=save)


@command("flood")
def flood(
    *,
    minutes: Annotated[
        float | None, typer.Option(min=2, help="How long the bots send; the first to learn. [6]")
    ] = None,
    small: SmallOption = False,
    save: SaveOption = None,
) -> None:
    run_benchmark("flood", small=small, save=save, minutes=minutes)


@command("fairness")
def fairness(
    *,
    bots: Annotated[int | None, typer.Option(min=2, help="Bots beside the one with the backlog. [199]")] = None,
    backlog: Annotated[int | None, typer.Option(min=1, help="Media that this one waits with. [10000]")] = None,
    small: SmallOption = False,
    save: SaveOption = None,
) -> None:
    run_benchmark("fairness", small=small, save=save, bots=bots, backlog=backlog)


@command("fanout")
def fanout(*, small: SmallOption = False, save: SaveOption = None) -> None:
    run_benchmark("fanout", small=small, save=save)


@command("send")
def send(*, small: SmallOption = False, save: SaveOption = None) -> None:
    run_benchmark("send", small=small, save=save)


@command("broadcast")
def broadcast(
    *,
    recipients: Annotated[int | None, typer.Option(min=1, help="Of a broadcast at full speed. [100000]")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Recipients in hand at once. [200]")] = None,
    small: SmallOption = False,
    save: SaveOption = None,
) -> None:
    run_benchmark("broadcast", small=small, save=save, recipients=recipients, concurrency=concurrency)


@command("events")
def events(
    *,
    listeners: Annotated[int | None, typer.Option(min=1, help="Streams that are open at once. [500]")] = None,
    small: SmallOption = False,
    save: SaveOption = None,
) -> None:
    run_benchmark("events", small=small, save=save, listeners=listeners)


@command("api")
def api(*, small: SmallOption = False, save: SaveOption = None) -> None:
    run_benchmark("api", small=small, save=save)


@command("claims")
def claims(*, small: SmallOption = False, save: SaveOption = None) -> None:
    run_benchmark("claims", small=small, save=save)


@command("churn")
def churn(
    *,
    warmups: Annotated[int | None, typer.Option(min=1, help="Warm-ups of the simulated day. [1000000]")] = None,
    small: SmallOption = False,
    save: SaveOption = None,
) -> None:
    run_benchmark("churn", small=small, save=save, warmups=warmups)


@command("memory")
def memory(*, small: SmallOption = False, save: SaveOption = None) -> None:
    run_benchmark("memory", small=small, save=save)


@command("scaleout")
def scaleout(*, small: SmallOption = False, save: SaveOption = None) -> None:
    run_benchmark("scaleout", small=small, save=save)


@command("crash")
def crash(*, small: SmallOption = False, save: SaveOption = None) -> None:
    run_benchmark("crash", small=small, save=save)


@app.command("all")
def all_(
    *,
    save_to: Annotated[Path, typer.Option(file_okay=False, help="Where the results go.")] = Path("benchmarks/results"),
    only: Annotated[list[str] | None, typer.Option(help="Just this one; repeatable.")] = None,
    small: SmallOption = False,
) -> None:
    """Every benchmark in turn, each in a process of its own: one JSON file each, and one table in summary.md.

    Takes about an hour at full size; it goes on when one of them fails.
    """
    names = only or list(everything.BY_NAME)
    for name in names:
        if name not in everything.BY_NAME:
            raise typer.BadParameter(f"no benchmark {name}; there are {', '.join(everything.BY_NAME)}; see --help")
    results = run(everything.run_each(names, save_to, small=small))
    Console().print(f"The table of them all: {save_to / 'summary.md'}", highlight=False)
    raise typer.Exit(any(result.failed or (result.missed and not small) for result in results))


def run_benchmark(name: str, *, small: bool, save: Path | None, **given: object) -> None:
    """Run one, print its table, keep its figures. Ends the command."""
    bench = everything.BY_NAME[name]
    options = (dict(bench.small) if small else {}) | {key: value for key, value in given.items() if value is not None}
    logs.configure(level="ERROR")
    bench.load()
    with print_progress(name) as report:
        found = run(bench.run(options, report=report))
    Console().print(figures.table(f"{name}: {bench.what}", found))
    if save is not None:
        everything.save(save, name, found, options)
    missed = everything.Result(name=name, figures=found).missed
    raise typer.Exit(missed and not small)


@contextmanager
def print_progress(name: str) -> Iterator[Callable[[str], None]]:
    """What is going on, on stderr: one line that changes on a terminal, else a line each."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: console.print(f"{name}: {line}", highlight=False)
        return
    with console.status(f"{name}: starting") as status:
        yield lambda line: status.update(f"{name}: {line}")
