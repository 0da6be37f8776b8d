"""Structured logs on standard error: readable on a terminal, JSON elsewhere, with secrets masked."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import structlog
from structlog.typing import Processor

# A bot token, also in a URL, where letters adjoin it and the colon may be escaped; its digits may be shown.
BOT_TOKEN_PATTERN = re.compile(r"(?<!\d)(\d{5,20})(?::|%3A)[A-Za-z0-9_-]{20,}", re.IGNORECASE)
URL_PASSWORD_PATTERN = re.compile(r"(\w://[^\s:/@]*):[^\s/@]+@")  # of a URL
BEARER_PATTERN = re.compile(
    r"\b(Bearer)\s+[^\s\"'`\\<>]{8,}", re.IGNORECASE
)  # ends at a quote, so that JSON stays valid
API_TOKEN_PATTERN = re.compile(r"\btw_[A-Za-z0-9_-]{20,}")
SIGNATURE_PATTERN = re.compile(
    r"(Signature(?:=|%3D))[0-9A-Z_-]{16,}", re.IGNORECASE
)  # of a presigned URL, or of a preview URL
DOWNGRADED_LOGGERS = ("pgqueuer", "asyncpg.pool")
MIN_SECRET_CHARACTERS = 12  # of a secret that is masked as a whole
WARNING_ONLY_LOGGERS = ("pgqueuer", "alembic", "uvicorn.access", "uvicorn.error", "aiohttp.access", "python_multipart")

_secrets: Counter[str] = Counter()  # with the number of callers that added them


def configure(*, log_format: str = "auto", level: str = "INFO") -> None:
    """Configure logging; to be called once, at start. `log_format`: pretty, json, or auto (pretty on a terminal)."""
    pretty = log_format == "pretty" or (log_format == "auto" and sys.stderr.isatty())
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
    handler.setFormatter(SecretMaskingFormatter(foreign_pre_chain=shared, processors=_last(pretty=pretty)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in WARNING_ONLY_LOGGERS:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    for anxious in DOWNGRADED_LOGGERS:
        logging.getLogger(anxious).filters[:] = [_drop_traceback]
    for own in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(own).handlers[:] = []
        logging.getLogger(own).propagate = True


def silence_libraries() -> None:
    """Quieten the log for programs that use the library, unless they have configured structlog.

    Events go to the standard library's loggers, which show only warnings until the program changes that.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
            _mask_line,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    for noisy in WARNING_ONLY_LOGGERS:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _mask_line(_logger: object, _method: str, line: object) -> str:
    return redact(str(line))


def _drop_traceback(record: logging.LogRecord) -> bool:
    """Drop the traceback and lower the level of libraries that report every lost connection, though they reconnect."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] == "asyncpg":
        record.msg, record.args = f"{record.getMessage()} ({type(error).__name__}: {error})", ()
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return logging.getLogger(record.name).isEnabledFor(record.levelno)


class SecretMaskingFormatter(structlog.stdlib.ProcessorFormatter):
    """Masks secrets in the finished line, which holds all texts of events, exceptions and foreign loggers."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record and mask its secrets."""
        return redact(super().format(record))


@contextmanager
def mask_secrets(*secrets: str) -> Iterator[None]:
    """Mask these secrets, whatever they look like. Values short enough to be words are not masked."""
    forms = Counter(form for secret in secrets if len(secret) >= MIN_SECRET_CHARACTERS for form in _forms(secret))
    _secrets.update(forms)
    try:
        yield
    finally:
        _secrets.subtract(forms)
        for form in forms:
            if not _secrets[form]:
                del _secrets[form]


def _forms(secret: str) -> set[str]:
    """Return a secret as it appears in text, in JSON, in a repr and in a URL."""
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe="")}


def redact(text: str) -> str:
    """Mask bot tokens, passwords and signatures in URLs, API and bearer tokens, and the values of `mask_secrets`."""
    if ":" in text or "%3" in text:
        text = BOT_TOKEN_PATTERN.sub(r"\1:<token>", text)
    if "://" in text:
        text = URL_PASSWORD_PATTERN.sub(r"\1:<password>@", text)
    if "tw_" in text:
        text = API_TOKEN_PATTERN.sub("tw_<token>", text)
    lower = text.lower()
    if "bearer" in lower:
        text = BEARER_PATTERN.sub(r"\1 <token>", text)
    if "signature" in lower:
        text = SIGNATURE_PATTERN.sub(r"\1<signature>", text)
    for secret in sorted([form for form in _secrets if form in text], key=len, reverse=True):
        text = text.replace(secret, "<secret>")
    return text


def request_id() -> str | None:
    """Return the id of the request that is being handled, if any."""
    found = structlog.contextvars.get_contextvars().get("request_id")
    return None if found is None else str(found)


def _last(*, pretty: bool) -> list[Processor]:
    """Return the last processors. Tracebacks are plain: rich ones would show local variables with secrets."""
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if pretty:
        plain = structlog.dev.plain_traceback
        return [meta, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [meta, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
