"""Escaping of foreign text inside formatted text, so that no value can break or forge the format.

`html("<b>{}</b>, hello", name)` and `markdown("*{}*, hello", name)` work like `str.format` and escape the values they
fill in.
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
    """Text that is formatted already and is filled in unchanged."""

    __slots__ = ()


def escape_html(text: str) -> SafeText:
    """Escape text for parse_mode HTML: between tags, in `<code>` and `<pre>`, and for a URL in a quoted `href`."""
    return SafeText(escape(text))


def escape_markdown(text: str) -> SafeText:
    """Escape text for parse_mode MarkdownV2, outside of code and URLs."""
    return SafeText(text.translate(_EVERYWHERE))


def escape_markdown_code(text: str) -> SafeText:
    """Escape MarkdownV2 code, the text between backticks."""
    return SafeText(text.translate(_IN_CODE))


def escape_markdown_url(url: str) -> SafeText:
    """Escape the URL of a MarkdownV2 link, the part in round brackets: `[name](url)`."""
    return SafeText(url.translate(_IN_URL))


def html(template: str, /, *values: object, **named: object) -> SafeText:
    """Format like `str.format` for parse_mode HTML. Values of type `SafeText` stay unchanged."""
    return SafeText(_HTML.vformat(template, values, named))


def markdown(template: str, /, *values: object, **named: object) -> SafeText:
    """Format like `str.format` for parse_mode MarkdownV2. Values of type `SafeText` stay unchanged.

    Code and URLs have other rules: fill in `escape_markdown_code(...)` and `escape_markdown_url(...)` there.
    """
    return SafeText(_MARKDOWN.vformat(template, values, named))


class _Html(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401 - the base class's signature
        """Escape the value for HTML."""
        return value if isinstance(value, SafeText) and not format_spec else escape_html(format(value, format_spec))


class _Markdown(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401 - the base class's signature
        """Escape the value for MarkdownV2."""
        return value if isinstance(value, SafeText) and not format_spec else escape_markdown(format(value, format_spec))


_HTML = _Html()
_MARKDOWN = _Markdown()
