"""File name of a download. Pure."""

from __future__ import annotations

import warnings
from typing import Final

from aiohttp import content_disposition_filename, parse_content_disposition
from yarl import URL

from telewarm.models import printable_name

MAX_NAME_CHARACTERS: Final = 255  # characters


def name_of(disposition: str | None, url: URL) -> str | None:
    """Return the name by the server (Content-Disposition), else the last part of the path; None without either."""
    return _clean(_disposition_name(disposition) or "") or _clean(url.name)


def _disposition_name(disposition: str | None) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # aiohttp warns of damaged headers: then the path is used
        try:
            _, fields = parse_content_disposition(disposition)
            return content_disposition_filename(fields)
        except (LookupError, ValueError):  # the same in aiohttp before 3.13
            return None


def _clean(name: str) -> str | None:
    last = name.replace("\\", "/").rpartition("/")[2]
    return printable_name(printable_name(last)[:MAX_NAME_CHARACTERS]) or None
