"""File names in the parts of a form, as clients write them: plain, by RFC 5987 (`filename*`) or RFC 2047. Pure."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Final

from aiohttp import content_disposition_filename, parse_content_disposition

EXTENDED_FILENAME_PATTERN: Final = re.compile(rb";\s*filename\*(?:\d+\*?)?\s*=", re.IGNORECASE)
ENCODED_WORD_PATTERN: Final = re.compile(r"=\?[\w.*-]+\?[bq]\?[^?]*\?=", re.IGNORECASE)


def has_file_name(disposition: bytes, options: Mapping[bytes, bytes]) -> bool:
    """Return whether a part has a file name. `options`: of the form's parser, which leaves out RFC 5987 values."""
    return b"filename" in options or EXTENDED_FILENAME_PATTERN.search(disposition) is not None


def file_name(disposition: bytes, options: Mapping[bytes, bytes]) -> str | None:
    """Return the client's name of the file, decoded if possible."""
    said = options.get(b"filename", b"").decode(errors="replace")
    if EXTENDED_FILENAME_PATTERN.search(disposition) is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that are damaged: then the plain name must do
            _, fields = parse_content_disposition(disposition.decode(errors="replace"))
            said = content_disposition_filename(fields) or said
    return _decode_words(said) or None


def _decode_words(text: str) -> str:
    if ENCODED_WORD_PATTERN.search(text) is None:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return text
