"""Fixtures of every test, and the tiers: a test is marked by what it needs."""

from __future__ import annotations

from pathlib import Path

import hypothesis  # noqa: F401 - imported late, in the middle of reporting a time-out, it breaks the report
import pytest

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.objects",
    "tests.fixtures.sandbox",
    "tests.fixtures.media",
    "tests.fixtures.logs",
    "tests.fixtures.app",
]

NEEDS = {
    "postgres_server": "database",
    "rclone": "server",
    "seaweedfs": "server",
    "sandbox": "server",
    "sandbox_with": "server",
}
HEAVY = ("tests/crash", "tests/cluster", "tests/demo/test_bench")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in NEEDS:
                item.add_marker(NEEDS[fixture])
        path = Path(item.path).relative_to(item.config.rootpath).as_posix()
        if path.startswith(HEAVY):
            item.add_marker("heavy")
