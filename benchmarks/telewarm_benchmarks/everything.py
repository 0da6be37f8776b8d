"""The catalogue of benchmarks, and how their results are kept: one JSON a benchmark, one table of them all."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from telewarm import clock
from telewarm_benchmarks.figures import Figure, Verdict, machine, shown

FACTS = ("cores", "machine", "system", "python", "telewarm")


class Measure(Protocol):
    """Sizes are keywords with full-size defaults. `report` hears one line whenever something else is measured."""

    def __call__(self, *, report: Callable[[str], None], **sizes: Any) -> Awaitable[list[Figure]]: ...  # noqa: ANN401


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """`small`: the sizes of a quick look, which takes seconds and proves nothing. `takes`: the full size."""

    name: str
    what: str
    takes: str
    small: Mapping[str, object] = field(default_factory=dict)

    def load(self) -> Measure:
        """Imported only now: the other commands must not wait for it."""
        return cast(Measure, importlib.import_module(f"telewarm_benchmarks.{self.name}").measure)

    async def run(self, sizes: Mapping[str, Any], *, report: Callable[[str], None]) -> list[Figure]:
        """At full size but for `sizes`."""
        measure = self.load()
        plan = plan_of(measure)
        return await measure(report=report, **(sizes if plan is None else {"plan": replace(plan, **sizes)}))


def plan_of(measure: Measure) -> Any:  # noqa: ANN401 - a dataclass of its own
    """Some have many sizes, in one value; None: this one takes them as keywords."""
    plan = inspect.signature(measure).parameters.get("plan")
    return None if plan is None else plan.default


BENCHES = (
    Bench(
        name="warmup",
        what="One bot's warm-ups a second beside a bare aiohttp upload loop; from accepted to ready.",
        takes="3 minutes",
        small={"photos": 40, "rounds": 1},
    ),
    Bench(
        name="latency",
        what="Continuous parallelism: with 600 ms an upload, are as many warm-ups in flight as there may be? And how "
        "soon is new work of a bot acted on while something else of it waits?",
        takes="3 minutes",
        small={"photos": 30, "latency_ms": 100, "rounds": 1},
    ),
    Bench(
        name="flood",
        what="Flood control against real limits, and limits half and double of what the settings say.",
        takes="9 minutes",
        small={"minutes": 0.5, "learning": 15, "chats": (1, 4), "fresh": 24},
    ),
    Bench(
        name="fairness",
        what="What 200 bots notice of one more that has 10,000 media and waits for a flood to end.",
        takes="5 minutes",
        small={"bots": 12, "photos": 4, "spread": 2.0, "backlog": 500, "waits": (6, 2), "rounds": 1},
    ),
    Bench(
        name="fanout",
        what="Forwarding: 50 bots that share a warm-up chat send the bytes of a file once.",
        takes="2 minutes",
        small={"bots": 6, "media": 4, "size": 200_000},
    ),
    Bench(
        name="send",
        what="A send of a ready item, by the library and over HTTP, beside bare aiohttp, aiogram, python-telegram-bot.",
        takes="3 minutes",
        small={"sends": 200, "rounds": 1, "ids": 500, "requests": 200},
    ),
    Bench(
        name="broadcast",
        what="Loading 1,000,000 recipients, 100,000 messages beside a bare loop, Telegram's ceiling, kill -9.",
        takes="12 minutes",
        small={
            "rows": 10_000,
            "recipients": 1000,
            "rounds": 1,
            "few": 100,
            "others": 100,
            "seconds": 5.0,
            "kills": 1,
            "killed": 2000,
        },
    ),
    Bench(
        name="events",
        what="500 listeners of live events: their cost while nothing happens, how soon they hear, how much at once.",
        takes="3 minutes",
        small={"listeners": 10, "idle": 1.0, "timed": 5, "burst": 400},
    ),
    Bench(
        name="api",
        what="Uploads a second beside FastAPI alone, a large one's memory, three times the load that it can bear.",
        takes="4 minutes",
        small={"photos": 40, "rounds": 1, "large": 8_000_000, "sends": 300, "seconds": 2.0},
    ),
    Bench(
        name="claims",
        what="What the queue's statements cost at 1,000 and at 1,000,000 due media.",
        takes="5 minutes",
        small={"few": 100, "many": 5000, "rounds": 20, "mixed": 300},
    ),
    Bench(
        name="churn",
        what="A simulated day of 1,000,000 warm-ups: how far tables and indexes grow, what claims cost then.",
        takes="15 minutes",
        small={"warmups": 2000, "items": 2000, "bots": 5, "slices": 500},
    ),
    Bench(
        name="memory",
        what="What a worker's memory grows by while 50 MB videos and a 1.5 GB file stream through it.",
        takes="2 minutes",
        small={"video_bytes": 8_000_000, "large_bytes": 64_000_000, "shared": 2, "bots": 2},
    ),
    Bench(
        name="scaleout",
        what="Two workers on 40 bots beside one.",
        takes="3 minutes",
        small={"bots": 6, "photos": 5, "latency_ms": 200, "held": 15, "rounds": 1},
    ),
    Bench(
        name="crash",
        what="Kills and outages in the middle of warming 1,000 media: what goes up twice, who takes over when.",
        takes="8 minutes",
        small={"media": 60, "bots": 2, "concurrency": 2, "latency_ms": 150, "away": 2.0},
    ),
)
BY_NAME = {bench.name: bench for bench in BENCHES}


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One benchmark's run. `failed`: it ended without figures."""

    name: str
    figures: Sequence[Figure] = ()
    failed: bool = False

    @property
    def missed(self) -> bool:
        return self.failed or any(figure.verdict is Verdict.MISSED for figure in self.figures)


def save(path: Path, name: str, figures: Sequence[Figure], options: Mapping[str, object]) -> None:
    """Keep a run as JSON. `options`: the sizes that differ from the full size."""
    kept = {
        "bench": name,
        "when": clock.now().isoformat(timespec="seconds"),
        "machine": machine(),
        "options": dict(options),
        "figures": [asdict(figure) | {"verdict": figure.verdict} for figure in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> Result:
    """What `save` kept; failed when there is nothing."""
    if not path.exists():
        return Result(name=path.stem, failed=True)
    kept = json.loads(path.read_text(encoding="utf-8"))
    for figure in kept["figures"]:
        figure.pop("verdict")
    return Result(name=kept["bench"], figures=[Figure(**figure) for figure in kept["figures"]])


def summary(results: Sequence[Result], *, small: bool) -> str:
    """The Markdown table of all runs."""
    facts = machine()
    size = "a quick look, far below full size" if small else "full size"
    lines = [
        "# The last runs of `telewarm bench all`",
        "",
        f"{clock.now():%Y-%m-%d}, {size}: " + ", ".join(f"{name} {facts[name]}" for name in FACTS) + ".",
        "",
        "| bench | what | figure | target | verdict | beside |",
        "| --- | --- | ---: | ---: | --- | --- |",
    ]
    for result in results:
        if result.failed:
            lines.append(f"| {result.name} | no figures | | | **failed** | |")
        lines += [_row(result.name, figure) for figure in result.figures]
    return "\n".join(lines) + "\n"


def _row(name: str, figure: Figure) -> str:
    verdict = f"**{figure.verdict}**" if figure.verdict is Verdict.MISSED else str(figure.verdict)
    cells = (name, figure.name, f"{shown(figure.value)} {figure.unit}".strip(), figure.target, verdict, figure.beside)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


async def run_each(names: Sequence[str], folder: Path, *, small: bool) -> list[Result]:
    """Each in a process of its own, one after the other, as if it were called by hand. `summary.md` beside shows them,
    and what the folder holds of the others.
    """
    results = {}
    for name in names:
        path = folder / f"{name}.json"
        path.unlink(missing_ok=True)
        await _run_alone(name, path, small=small)
        results[name] = load(path)
        kept = [
            results.get(other) or load(folder / f"{other}.json") for other in BY_NAME if _shows(other, results, folder)
        ]
        (folder / "summary.md").write_text(summary(kept, small=small), encoding="utf-8")
    return list(results.values())


def _shows(name: str, results: Mapping[str, Result], folder: Path) -> bool:
    return name in results or (folder / f"{name}.json").exists()


async def _run_alone(name: str, path: Path, *, small: bool) -> None:
    words = ("bench", name, "--save", str(path), *(("--small",) if small else ()))
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "telewarm", *words)
    try:
        await process.wait()
    finally:
        if process.returncode is None:  # we were cancelled: it tidies up, and is not left behind
            process.terminate()
            await process.wait()
