"""Structured logs on standard error: for people on a terminal, JSON elsewhere. A secret never gets through."""

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

# A bot token, also in a URL, where letters touch it and the colon may be escaped: its digits may be shown.
BOT_TOKEN_PATTERN = re.compile(r"(?<!\d)(\d{5,20})(?::|%3A)[A-Za-z0-9_-]{20,}", re.IGNORECASE)
URL_PASSWORD_PATTERN = re.compile(r"(\w://[^\s:/@]*):[^\s/@]+@")  # of a URL
BEARER_PATTERN = re.compile(
    r"\b(Bearer)\s+[^\s\"'`\\<>]{8,}", re.IGNORECASE
)  # a quote ends it, so that JSON stays JSON
API_TOKEN_PATTERN = re.compile(r"\btw_[A-Za-z0-9_-]{20,}")
SIGNATURE_PATTERN = re.compile(
    r"(Signature(?:=|%3D))[0-9A-Z_-]{16,}", re.IGNORECASE
)  # of a presigned URL, or one of ours
DOWNGRADED_LOGGERS = ("pgqueuer", "asyncpg.pool")
MIN_SECRET_CHARACTERS = 12  # characters of a secret that is masked by itself
WARNING_ONLY_LOGGERS = ("pgqueuer", "alembic", "uvicorn.access", "uvicorn.error", "aiohttp.access", "python_multipart")

_secrets: Counter[str] = Counter()  # and how many said so


def configure(*, log_format: str = "auto", level: str = "INFO") -> None:
    """`log_format`: pretty, json, or auto (pretty on a terminal). Call once, at start."""
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
    """They cry for help whenever the database is away, though they try again: no traceback, and a warning."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] == "asyncpg":
        record.msg, record.args = f"{record.getMessage()} ({type(error).__name__}: {error})", ()
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return logging.getLogger(record.name).isEnabledFor(record.levelno)


class SecretMaskingFormatter(structlog.stdlib.ProcessorFormatter):
    """Masks the finished line: whatever an event, an exception or a foreign logger brought is in it by then."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


@contextmanager
def mask_secrets(*secrets: str) -> Iterator[None]:
    """Mask these too, whatever they look like: a process's own. What is so short that it may be a word is left."""
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
    """As it stands in text, in JSON, in a repr and in a URL."""
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe="")}


def redact(text: str) -> str:
    """Mask whatever looks like a bot token, a URL's password or signature, an API token or a bearer token, and what is
    hidden by `hiding`.
    """
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
    """Of the request that is being served here, if any."""
    found = structlog.contextvars.get_contextvars().get("request_id")
    return None if found is None else str(found)


def _last(*, pretty: bool) -> list[Processor]:
    """Tracebacks are plain: rich ones would show the local variables, and with them secrets of any shape."""
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if pretty:
        plain = structlog.dev.plain_traceback
        return [meta, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [meta, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
