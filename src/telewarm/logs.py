"""Structured logs on standard error: for people on a terminal, JSON elsewhere. A secret never gets through."""

from __future__ import annotations

import logging
import re
import sys

import structlog
from structlog.typing import Processor

# A bot token, also in a URL, where letters touch it and the colon may be escaped: its digits may be shown.
TOKEN = re.compile(r"(?<!\d)(\d{5,20})(?::|%3A)[A-Za-z0-9_-]{20,}", re.IGNORECASE)
PASSWORD = re.compile(r"(\w://[^\s:/@]*):[^\s/@]+@")  # of a URL
BEARER = re.compile(r"\b(Bearer)\s+[^\s\"'`\\<>]{8,}", re.IGNORECASE)  # a quote ends it, so that JSON stays JSON
API_TOKEN = re.compile(r"\btw_[A-Za-z0-9_-]{20,}")
QUIET = ("pgqueuer", "alembic", "uvicorn.access", "uvicorn.error", "aiohttp.access", "python_multipart")


def configure(*, form: str = "auto", level: str = "INFO") -> None:
    """`form`: pretty, json, or auto (pretty on a terminal). Call once, at start."""
    pretty = form == "pretty" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacting(foreign_pre_chain=shared, processors=_last(pretty=pretty)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in QUIET:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    engine = logging.getLogger(QUIET[0])
    engine.filters[:] = [_in_one_line]
    for own in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(own).handlers[:] = []
        logging.getLogger(own).propagate = True


def keep_quiet() -> None:
    """For programs that use us as a library, unless they have set up structlog themselves: events go to the loggers of
    the standard library, where only warnings are shown until the program says otherwise.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
            _masked,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    for noisy in QUIET:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _masked(_logger: object, _method: str, line: object) -> str:
    return redact(str(line))


def _in_one_line(record: logging.LogRecord) -> bool:
    """PgQueuer cries for help whenever the database is away, though it tries again: no traceback, and a warning."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] == "asyncpg":
        record.msg, record.args = f"{record.getMessage()} ({type(error).__name__}: {error})", ()
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return logging.getLogger(record.name).isEnabledFor(record.levelno)


class Redacting(structlog.stdlib.ProcessorFormatter):
    """Masks the finished line: whatever an event, an exception or a foreign logger brought is in it by then."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def redact(text: str) -> str:
    """Mask whatever looks like a bot token, a URL's password or a bearer token."""
    if ":" in text or "%3" in text:
        text = PASSWORD.sub(r"\1:<password>@", TOKEN.sub(r"\1:<token>", text))
    if "tw_" in text:
        text = API_TOKEN.sub("tw_<token>", text)
    return BEARER.sub(r"\1 <token>", text)


def _last(*, pretty: bool) -> list[Processor]:
    """Tracebacks are plain: rich ones would show the local variables, and with them secrets of any shape."""
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if pretty:
        plain = structlog.dev.plain_traceback
        return [meta, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [meta, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
