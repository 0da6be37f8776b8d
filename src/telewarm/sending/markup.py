"""Checks of a text before it is sent: length, broken markup, buttons. Pure.

Refuses only what is certainly wrong: whatever may be right, in some version of the Bot API, is left to Telegram.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any, TypeGuard

from telewarm.errors import UsageError

MAX_TEXT_CHARACTERS = 4096  # visible characters
MAX_CAPTION_CHARACTERS = 1024
MAX_CALLBACK_BYTES = 64  # bytes
PARSE_MODES = frozenset({"html", "markdown", "markdownv2"})  # Telegram ignores their case
PLAIN_MODES = frozenset({"", "none"})  # of a part without formatting, whatever the message set says
MARKUPS = ("inline_keyboard", "keyboard", "remove_keyboard", "force_reply")

_TAG = re.compile(r"""<(/?)([a-zA-Z0-9-]*)((?:[^>"']|"[^"]*"|'[^']*')*)>""")
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
_KNOWN = frozenset(  # tags that must be closed
    {
        *("b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "span", "a", "code", "pre", "blockquote"),
        *("tg-spoiler", "tg-emoji"),
    }
)
_CODE = re.compile(r"(?s)```.*?```|`(?:\\.|[^`\\])*`")
_URL = re.compile(r"\]\((?:\\.|[^)\\])*\)")
_ESCAPED = re.compile(r"(?s)\\(.)")
_MARKS = re.compile(r"[_*~|`\[\]!>]")
_RESERVED = re.compile(r"[.+={}-]")  # outside of code, links and escapes, each must be escaped


def check_text(what: str, text: str, parse_mode: str | None, *, max_characters: int) -> None:
    """Raise UsageError for a text that is certainly too long, or certainly broken in this parse mode."""
    mode = (parse_mode or "").lower()
    if mode == "html":
        _check_html(what, text)
    elif mode == "markdownv2":
        _check_markdown(what, text)
    if len(text) <= max_characters:
        return
    length = visible_text(text, parse_mode)
    if length > max_characters:
        raise UsageError(f"{what} has at most {max_characters} characters, and this has {length}")


def visible_text(text: str, parse_mode: str | None) -> int:
    """Return the number of visible characters, or fewer: markup does not count, nor whitespace at the ends."""
    match (parse_mode or "").lower():
        case "html":
            text = _ENTITY.sub(lambda found: unescape(found[0]), _TAG.sub("", text))
        case "markdownv2":
            escaped = _ESCAPED.sub(_unescaped, _URL.sub("", text))
            text = _MARKS.sub("", escaped)
        case "markdown":
            text = _MARKS.sub("", _URL.sub("", _ESCAPED.sub(_unescaped, text)))
        case _:
            pass
    return len(text.strip())


def _unescaped(found: re.Match[str]) -> str:
    """Return the one character that an escape stands for; whitespace at an end does not count."""
    return " " if found[1].isspace() else "x"


def _check_html(what: str, text: str) -> None:
    """Check that all tags are closed in order. One unknown tag ends the check: nothing is certain any more."""
    opened: list[str] = []
    at = 0
    while (at := text.find("<", at)) >= 0:
        tag = _TAG.match(text, at)
        if tag is None:
            if '"' in text[at:] or "'" in text[at:]:  # a quoted attribute may hold anything
                return
            raise _broken(what, f"the tag {text[at : at + 20]!r} does not end", "write &lt; for <")
        name = tag[2].lower()
        if tag[1]:
            if not opened:
                raise _broken(what, f"{tag[0]!r} closes nothing", "take it away, or open it before")
            if name not in {"", opened[-1]}:
                raise _broken(what, f"{tag[0]!r} comes while <{opened[-1]}> is open", f"write </{opened[-1]}> first")
            opened.pop()
        elif not name:
            raise _broken(what, f"{tag[0][:20]!r} is no tag", "write &lt; for <")
        elif name not in _KNOWN:
            return
        else:
            opened.append(name)
        at = tag.end()
    if opened:
        raise _broken(what, f"<{opened[-1]}> is not closed", f"write </{opened[-1]}> behind it")


def _check_markdown(what: str, text: str) -> None:
    if text.count("`") % 2:  # unclosed code: where it begins is for Telegram to decide
        return
    plain = _ESCAPED.sub("", _URL.sub("", _CODE.sub("", text)))
    if found := _RESERVED.search(plain):
        raise _broken(
            what,
            f"the character {found[0]!r} is reserved in MarkdownV2",
            rf"write \{found[0]} for it, or fill texts in with telewarm.markdown(…)",
        )


def _broken(what: str, reason: str, cure: str) -> UsageError:
    return UsageError(f"{what} cannot be formatted: {reason}; {cure}")


def check_format(what: str, parse_mode: str | None, entities: Sequence[Mapping[str, object]] | None) -> None:
    """Raise UsageError for an unknown parse mode, or one together with entities."""
    if parse_mode is not None and parse_mode.lower() not in PARSE_MODES:
        raise UsageError(f"{what} has the parse_mode {parse_mode!r}; Telegram knows HTML and MarkdownV2")
    if parse_mode is not None and entities is not None:
        raise UsageError(f"{what} has a parse_mode and entities; give one of the two")


def check_buttons(markup: Mapping[str, object]) -> None:
    """Raise UsageError for what cannot be a keyboard."""
    kinds = [name for name in MARKUPS if name in markup]
    if len(kinds) != 1:
        raise UsageError(f"reply_markup is an object with one of {', '.join(MARKUPS)}; this has {sorted(markup)[:5]}")
    rows = markup[kinds[0]]
    if kinds[0] not in {"inline_keyboard", "keyboard"}:
        return
    if not _is_list(rows) or not all(_is_list(row) for row in rows):
        raise UsageError(f'{kinds[0]} is a list of rows, each a list of buttons: [[{{"text": "…"}}]]')
    buttons = [button for row in rows for button in row]
    for number, button in enumerate(buttons, 1):
        _check_button(f"button {number} of {kinds[0]}", button, inline=kinds[0] == "inline_keyboard")


def _check_button(what: str, button: object, *, inline: bool) -> None:
    if isinstance(button, str) and not inline:
        return
    if not isinstance(button, Mapping):
        raise UsageError(f"{what} is no object")
    text, data = button.get("text"), button.get("callback_data")
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{what} has no `text`")
    if isinstance(data, str) and len(data.encode(errors="replace")) > MAX_CALLBACK_BYTES:
        raise UsageError(f"{what} has a callback_data of more than {MAX_CALLBACK_BYTES} bytes")


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
