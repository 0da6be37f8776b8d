"""Tasks in the background: none ends unseen."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

from structlog.testing import capture_logs

import telewarm
from telewarm import background, clock

DETACHED = ("collector", "audit log", "chat statuses", "lease keeper", "maintenance", "synchronise rates", "events")


async def test_one_that_fails_is_logged_with_its_traceback() -> None:
    async def work() -> None:
        raise ValueError("so")

    with capture_logs() as logged:
        await asyncio.wait([background.start(work(), name="some work")])
    [line] = logged
    assert (line["event"], line["task"], line["log_level"]) == ("background_task_failed", "some work", "error")
    assert isinstance(line["exc_info"], ValueError)


async def test_one_that_ends_or_is_cancelled_says_nothing() -> None:
    with capture_logs() as logged:
        ended = background.start(clock.sleep(0), name="ends")
        cancelled = background.start(clock.sleep(60), name="is cancelled")
        cancelled.cancel()
        await asyncio.wait([ended, cancelled])
    assert logged == []


def test_tasks_that_nobody_awaits_are_started_in_the_background() -> None:
    """By their names, in all of the package."""
    starts: dict[str, str] = {}
    for path in Path(telewarm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                for keyword in node.keywords:
                    if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                        starts[str(keyword.value.value)] = ast.unparse(node.func)
    assert {name: starts.get(name) for name in DETACHED} == dict.fromkeys(DETACHED, "background.start")
