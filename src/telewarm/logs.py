"""Structured logs on standard error: for people on a terminal, JSON elsewhere. A token never gets through."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping

import structlog
from structlog.typing import Processor

TOKEN = re.compile(r"\b(\d{5,16}):[A-Za-z0-9_-]{20,80}")  # a bot token: its digits may be shown, the rest may not


def configure(*, form: str = "auto", level: str = "INFO") -> None:
    """`form`: pretty, json, or auto (pretty on a terminal). Call once, at start."""
    pretty = form == "pretty" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    if not pretty:
        final.insert(1, structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*final]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("pgqueuer", "alembic", "uvicorn.access", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    for own in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(own).handlers[:] = []
        logging.getLogger(own).propagate = True


def redact(_: object, __: str, event: MutableMapping[str, object]) -> Mapping[str, object]:
    """Mask whatever looks like a bot token, wherever it stands."""
    for key, value in event.items():
        if isinstance(value, str) and ":" in value:
            event[key] = TOKEN.sub(r"\1:<token>", value)
    return event
