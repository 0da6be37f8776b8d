import hypothesis  # noqa: F401 - imported late, in the middle of reporting a time-out, it breaks the report

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.objects",
    "tests.fixtures.sandbox",
    "tests.fixtures.media",
    "tests.fixtures.logs",
    "tests.fixtures.app",
]
