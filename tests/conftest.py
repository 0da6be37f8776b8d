"""Fixtures of every test. `tests.fixtures.tiers` marks tests by what they use."""

from __future__ import annotations

from hypothesis import settings  # early: imported in the middle of reporting a time-out, it breaks the report

pytest_plugins = [
    "tests.fixtures.tiers",
    "tests.fixtures.postgres",
    "tests.fixtures.objects",
    "tests.fixtures.sandbox",
    "tests.fixtures.media_files",
    "tests.fixtures.logs",
    "tests.fixtures.telewarms",
]

settings.register_profile("dev", max_examples=40, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None)
settings.load_profile("dev")
