"""Sizes of the code: classes, functions and files stay small enough to read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("src/telewarm", "benchmarks/telewarm_benchmarks")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_METHODS = 20
MAX_ATTRIBUTES = 12  # names that a class assigns to `self`


def test_no_file_has_more_than_400_lines() -> None:
    sizes = {name: len(text.splitlines()) for name, text in sources()}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE_LINES} == {}


def test_no_function_has_more_than_50_lines() -> None:
    sizes = {f"{name}:{one.lineno} {one.name}": lines_of(one) for name, one in functions()}
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES} == {}


def test_no_class_has_more_than_20_methods() -> None:
    sizes = {f"{name} {one.name}": len(methods_of(one)) for name, one in classes()}
    assert {name: size for name, size in sizes.items() if size > MAX_METHODS} == {}


def test_no_class_has_more_than_12_attributes() -> None:
    sizes = {f"{name} {one.name}": len(attributes_of(one)) for name, one in classes()}
    assert {name: size for name, size in sizes.items() if size > MAX_ATTRIBUTES} == {}


def sources() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, node


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for name, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                yield name, node


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def methods_of(node: ast.ClassDef) -> list[str]:
    return [one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]


def attributes_of(node: ast.ClassDef) -> set[str]:
    return {
        one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute)
        and isinstance(one.ctx, ast.Store)
        and isinstance(one.value, ast.Name)
        and one.value.id == "self"
    }
