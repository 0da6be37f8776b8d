"""Texts of others inside formatted ones: escaped, so that nobody's name breaks or forges the format.

`html("<b>{}</b>, hello", name)` and `markdown("*{}*, hello", name)` are `str.format` that escapes what it fills in.
"""

from __future__ import annotations

from html import escape
from string import Formatter
from typing import Any

RESERVED = "_*[]()~`>#+-=|{}.!\\"  # in MarkdownV2 outside of code and URLs
_EVERYWHERE = str.maketrans({character: f"\\{character}" for character in RESERVED})
_IN_CODE = str.maketrans({"`": "\\`", "\\": "\\\\"})
_IN_URL = str.maketrans({")": "\\)", "\\": "\\\\"})


class SafeText(str):
    """Formatted already: filled in as it is."""

    __slots__ = ()


def escape_html(text: str) -> SafeText:
    """Good between tags, in `<code>` and `<pre>`, and for a URL in the quotes of an `href`."""
    return SafeText(escape(text))


def escape_markdown(text: str) -> SafeText:
    """For parse_mode MarkdownV2, outside of code and URLs."""
    return SafeText(text.translate(_EVERYWHERE))


def escape_markdown_code(text: str) -> SafeText:
    """For what stands between backticks."""
    return SafeText(text.translate(_IN_CODE))


def escape_markdown_url(url: str) -> SafeText:
    """For what stands in the round brackets of a link: `[name](url)`."""
    return SafeText(url.translate(_IN_URL))


def html(template: str, /, *values: object, **named: object) -> SafeText:
    """`str.format` for parse_mode HTML. Values that are `Safe` go in as they are."""
    return SafeText(_HTML.vformat(template, values, named))


def markdown(template: str, /, *values: object, **named: object) -> SafeText:
    """`str.format` for parse_mode MarkdownV2. Values that are `Safe` go in as they are.

    In code and in URLs other rules hold: fill in `escape_markdown_code(...)` and `escape_markdown_url(...)` there.
    """
    return SafeText(_MARKDOWN.vformat(template, values, named))


class _Html(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401 - the base class's signature
        return value if isinstance(value, SafeText) and not format_spec else escape_html(format(value, format_spec))


class _Markdown(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401 - the base class's signature
        return value if isinstance(value, SafeText) and not format_spec else escape_markdown(format(value, format_spec))


_HTML = _Html()
_MARKDOWN = _Markdown()
