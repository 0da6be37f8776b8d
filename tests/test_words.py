"""Plain words: the domain words of docs/glossary.md and the industry's terms, and none of the pictures of old."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from telewarm import metrics

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "telewarm"

# A word of old: what to say instead. Each is checked in names, in prose, or in both.
PICTURES = {
    "aboard": "admitted",
    "boarding": "pending",
    "crew": "worker pool",
    "desk": "context",
    "errand": "task",
    "hurry": "priority",
    "keyring": "token cache",
    "neighbour": "peer, other process",
    "neighbours": "peers, other processes",
    "orphans": "tombstones (deleted rows), orphaned objects (no row)",
    "parked": "idle",
    "passage": "permit",
    "roster": "bot management",
    "placements": "uploader, upload methods",
    "seat": "slot",
    "unsaid": "not yet written",
    "ward": "say what the fixture holds",
    "weather": "circuit breaker",
}
NAMES = PICTURES | {
    "asks": "requests",
    "flying": "running, in flight",
    "hungry": "starved, waiting",
    "journal": "audit log, writer",
    "landed": "done",
    "ledger": "chat status",
    "live": "session (of a bot)",
    "news": "changes, counts",
    "parking": "idle tracking",
    "placed": "uploaded, result",
    "placement": "upload",
    "seated": "composite",
    "settle": "apply, finish",
    "settled": "done",
    "told": "reported, notified, recorded",
    "traffic": "limiter",
    "untold": "not notified",
}
PROSE = PICTURES | {
    "anew": "again",
    "by and by": "later, in the background",
    "chat ledger": "chat status",
    "in the air": "in flight",
    "the ledger": "chat status",
    "mend": "fix, repair",
    "mended": "fixed, repaired",
    "the spool": "the disk cache",
}
SQL_PROSE = PROSE | {
    "hand": "claimed, held",
    "handicap": "priority offset",
    "ledger": "chat status",
    "told": "notified",
}
# Classes are named by nouns: what was done to a thing does not say what it is.
PARTICIPLES = frozenset(
    {"Admitted", "Answered", "Asked", "Claimed", "Cleared", "Closed", "Cold", "Found", "Given", "Held", "Known"}
    | {"Listed", "Loaded", "Placed", "Renamed", "Revoked", "Sent", "Shown", "Steered", "Streamed", "Taken", "Told"}
    | {"Traced", "Tried", "Wanted", "Warm"}
)
# A constant has a subject and a unit.
BARE_CONSTANTS = frozenset(
    {
        "AT_ONCE",
        "CHUNK",
        "EVERY",
        "LARGEST",
        "LATER",
        "LEAST",
        "LONGEST",
        "LOOK",
        "MOST",
        "PATIENCE",
        "SETTLE",
        "SLACK",
        "SOON",
    }
)
# Rich's progress display, a class made of it, and a chat of the tests.
FOREIGN_NAMES = frozenset({"Live", "LiveProgress", "NEWS"})
LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception"})
START_LINE = "[MEDIA][PREWARM][WORKER][START] "
EVENT = re.compile(r"[a-z][a-z0-9_]*")
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE)\b")


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py") if path != Path(__file__))


CODE = python_files(SOURCE, ROOT / "benchmarks", ROOT / "examples")
TESTS = python_files(ROOT / "tests")
SQL_FILES = sorted(SOURCE.rglob("*.sql"))
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md"))
    if path.name != "CHANGELOG.md"
)


def expect_none(found: Iterable[str]) -> None:
    """Fail with one line for each word of old."""
    if lines := list(found):
        pytest.fail("\n".join([f"{len(lines)} found:", *lines]), pytrace=False)


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def tokens(path: Path) -> Iterator[tokenize.TokenInfo]:
    with path.open("rb") as file:
        yield from tokenize.tokenize(file.readline)


def old_words(text: str, table: Mapping[str, str]) -> list[str]:
    lower = text.lower()
    return [word for word in table if word in lower and re.search(rf"\b{word}\b", lower)]


def in_names(path: Path) -> Iterator[str]:
    for token in tokens(path):
        if token.type != tokenize.NAME or token.string in FOREIGN_NAMES or token.string.startswith("test_"):
            continue
        for word in WORDS.findall(token.string):
            if (cure := NAMES.get(word.lower())) is not None:
                yield f"{where(path, token.start[0])} {token.string}: say {cure}"


def in_prose(path: Path) -> Iterator[str]:
    for token in tokens(path):
        if token.type not in {tokenize.COMMENT, tokenize.STRING} or SQL.search(token.string):
            continue
        if token.type == tokenize.STRING and " " not in token.string:
            continue
        for word in old_words(token.string, PROSE):
            yield f"{where(path, token.start[0])} {word}: say {PROSE[word]}"


@pytest.mark.parametrize("files", [CODE, TESTS], ids=["code", "tests"])
def test_names_have_no_pictures(files: list[Path]) -> None:
    expect_none(found for path in files for found in in_names(path))


@pytest.mark.parametrize("files", [CODE, TESTS], ids=["code", "tests"])
def test_docstrings_comments_and_messages_have_no_pictures(files: list[Path]) -> None:
    expect_none(found for path in files for found in in_prose(path))


def in_sql(path: Path) -> Iterator[str]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code, _, comment = line.partition("--")
        for word in old_words(comment, SQL_PROSE):
            yield f"{where(path, number)} {word}: say {SQL_PROSE[word]}"
        for word in WORDS.findall(code):
            if (cure := NAMES.get(word.lower())) is not None:
                yield f"{where(path, number)} {word}: say {cure}"


def test_queries_and_the_schema_have_no_pictures() -> None:
    assert len(SQL_FILES) > 40
    expect_none(found for path in SQL_FILES for found in in_sql(path))


def test_files_are_named_without_pictures() -> None:
    names = [path.relative_to(ROOT) for path in (*CODE, *TESTS, *SQL_FILES)]
    expect_none(
        f"{name}: say {NAMES[word]}" for name in names for word in re.split(r"[/_.]", str(name)) if word in NAMES
    )


def test_documents_have_no_pictures() -> None:
    lines = [(path, n, line) for path in DOCUMENTS for n, line in enumerate(path.read_text().splitlines(), 1)]
    expect_none(
        f"{where(path, n)} {word}: say {PROSE[word]}" for path, n, line in lines for word in old_words(line, PROSE)
    )


def test_classes_are_named_by_nouns() -> None:
    classes = [
        (path, node)
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    expect_none(f"{where(path, node.lineno)} {node.name}" for path, node in classes if node.name in PARTICIPLES)


def test_constants_have_a_subject() -> None:
    expect_none(
        f"{where(path, token.start[0])} {token.string}"
        for path in CODE
        for token in tokens(path)
        if token.type == tokenize.NAME and token.string in BARE_CONSTANTS
    )


def events(path: Path) -> Iterator[tuple[int, str]]:
    """The events that a file logs: the first argument of `log.info` and its like, f-strings without their values."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr=method, value=ast.Name(id="log") | ast.Attribute(attr="_log"))) if (
                method in LOG_METHODS
            ):
                match node.args[0]:
                    case ast.Constant(value=str(event)):
                        yield node.lineno, event
                    case ast.JoinedStr(values=parts):
                        yield node.lineno, "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
                    case _:
                        pass
            case _:
                pass


def test_log_events_are_one_name_in_snake_case() -> None:
    found = [(path, line, event) for path in python_files(SOURCE) for line, event in events(path)]
    assert len(found) > 80
    expect_none(
        f"{where(path, line)} {event}"
        for path, line, event in found
        if not EVENT.fullmatch(event) and not event.startswith(START_LINE)
    )
    expect_none(
        f"{where(path, line)} {event}: say {NAMES[word]}"
        for path, line, event in found
        for word in event.split("_")
        if word in NAMES
    )


def test_metrics_are_named_without_pictures() -> None:
    names = {family.name for family in metrics.REGISTRY.collect()}
    assert len(names) > 15
    expect_none(name for name in names for word in name.split("_") if word in NAMES or word == "spool")
