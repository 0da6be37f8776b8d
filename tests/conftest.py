pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.objects",
    "tests.fixtures.sandbox",
    "tests.fixtures.media",
    "tests.fixtures.app",
]
