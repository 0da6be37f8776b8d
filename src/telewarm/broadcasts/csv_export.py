"""CSV export of results and rejected rows, page by page, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence

from telewarm.database.recipients import RejectedRow
from telewarm.models import Delivery

RESULT_COLUMNS = ("chat_id", "outcome", "message_ids", "error", "moved_to")
REJECTED_COLUMNS = ("line", "reason", "excerpt")
PENDING = "pending"  # in place of an outcome that does not exist yet
# What a spreadsheet would run when a cell begins with it, also in the middle of our cell: a spreadsheet may split
# lines at semicolons, tabs or line ends, as Excel does in many countries.
FORMULA_PATTERN = re.compile(r"(^|[;\t\r\n\v\f\x85\u2028\u2029|])([\s\ufeff\"']*)([=+\-@＝＋－＠\t\r])")
NUMBER_PATTERN = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
ROWS_PER_PIECE = 1_000  # rejected rows in one chunk


async def results_csv(pages: AsyncIterator[Sequence[Delivery]]) -> AsyncIterator[str]:
    """Yield the header, then one chunk for each page."""
    yield _lines([RESULT_COLUMNS])
    async for page in pages:
        yield _lines(_delivery(one) for one in page)


async def rejected_csv(found: AsyncIterator[RejectedRow]) -> AsyncIterator[str]:
    """Yield the header, then chunks of many rows."""
    yield _lines([REJECTED_COLUMNS])
    held: list[tuple[object, ...]] = []
    async for one in found:
        held.append((one.line, one.reason, one.excerpt))
        if len(held) == ROWS_PER_PIECE:
            yield _lines(held)
            held.clear()
    if held:
        yield _lines(held)


def _delivery(one: Delivery) -> tuple[object, ...]:
    messages = " ".join(map(str, one.message_ids))
    return one.chat_id, one.outcome or PENDING, messages, one.error, one.moved_to


def _lines(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """Mark a text that a spreadsheet would run as a formula as text. Numbers stay numbers."""
    if isinstance(value, str) and NUMBER_PATTERN.fullmatch(value) is None:
        lines = value.replace("\r\n", "\n").replace("\r", "\n")  # some readers take a bare CR for the end of the row
        return FORMULA_PATTERN.sub(r"\1\2'\3", lines)
    return value
