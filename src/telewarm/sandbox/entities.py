"""Captions and texts: parse modes, entities and lengths (facts 1.4, 4.5). Offsets count UTF-16 units."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from telewarm.sandbox.errors import ApiError, bad

MAX_RAW = 32768  # bytes before parsing
MAX_CAPTION = 1024  # code points after parsing
MAX_TEXT = 4096

Entity = tuple[int, int, str, str]  # offset, length, type, and its URL, language or custom emoji id

TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "tg-emoji": "custom_emoji",
    "span": "spoiler",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
    "a": "text_link",
}
MARKS = {
    "*": "bold",
    "_": "italic",
    "__": "underline",
    "~": "strikethrough",
    "||": "spoiler",
    "`": "code",
    "```": "pre",
}
MARKS_V1 = {"*": "bold", "_": "italic", "`": "code", "```": "pre"}
RESERVED = frozenset("_*[]()~`>#+-=|{}.!")

_TAG = re.compile(r"""<(/?)([a-zA-Z-]*)((?:[^>"']|"[^"]*"|'[^']*')*)>""")
_ATTRIBUTE = re.compile(r"""([a-zA-Z-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^"'>\s]*)))?""")
_HTML_ENTITY = re.compile(r"&(?:(lt|gt|amp|quot)|#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6}));?")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}  # no others: &nbsp; is shown as it is
_IN_BRACKETS = re.compile(r"\(((?:\\.|[^)\\])*)\)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_EMOJI_URL = re.compile(r"tg://emoji\?id=([0-9]+)")


@dataclass(frozen=True, slots=True)
class Parsed:
    """Parsed text with entities."""

    text: str
    entities: tuple[Entity, ...] = ()


@dataclass(slots=True)
class _Builder:
    """Text so far, the entities found, and open ones as (type, start, byte offset, detail)."""

    text: str = ""
    units: int = 0
    entities: list[Entity] = field(default_factory=list)
    open: list[tuple[str, int, int, str]] = field(default_factory=list)
    quote: int | None = None  # where a block quotation begins, while one is open

    def add(self, text: str) -> None:
        """Add text."""
        self.text += text
        self.units += len(text.encode("utf-16-le")) // 2

    def begin(self, name: str, at: int, detail: str = "") -> None:
        """Open an entity."""
        self.open.append((name, self.units, at, detail))

    def end(self, kind: str, detail: str = "") -> None:
        """Close an entity."""
        _, start, _, known = self.open.pop()
        if self.units > start:
            self.entities.append((start, self.units - start, kind, detail or known))

    def end_quote(self, *, expandable: bool = False) -> None:
        """Close a block quotation."""
        if self.quote is not None and self.units > self.quote:
            kind = "expandable_blockquote" if expandable else "blockquote"
            self.entities.append((self.quote, self.units - self.quote, kind, ""))
        self.quote = None

    def finish(self) -> Parsed:
        """Return the parsed text."""
        self.end_quote()
        order = sorted(self.entities, key=lambda entity: (entity[0], -entity[1]))
        return Parsed(self.text.rstrip(), tuple(order))


def parse(raw: str, mode: str) -> Parsed:
    """Parse text: step 2 of the order of errors."""
    if len(raw.encode()) > MAX_RAW:
        raise bad("text is too long")
    match mode.lower():
        case "" | "none":
            return Parsed(raw.strip())
        case "html":
            return parse_html(raw)
        case "markdownv2":
            return parse_marks(raw, MARKS, version=2)
        case "markdown":
            return parse_marks(raw, MARKS_V1, version=1)
        case _:
            raise bad("unsupported parse_mode")


def check_caption(parsed: Parsed) -> None:
    """Check a caption's length."""
    if len(parsed.text) > MAX_CAPTION:
        raise bad("message caption is too long")


def parse_html(raw: str) -> Parsed:
    """Parse HTML."""
    builder = _Builder()
    at = 0
    while (found := raw.find("<", at)) >= 0:
        builder.add(_unescaped(raw[at:found]))
        tag = _TAG.match(raw, found)
        if tag is None:
            raise cannot(f"Unclosed start tag at byte offset {offset(raw, found)}")
        _tag(builder, tag, offset(raw, found))
        at = tag.end()
    builder.add(_unescaped(raw[at:]))
    if builder.open:
        name, _, _, _ = builder.open[-1]
        raise cannot(f'Can\'t find end tag corresponding to start tag "{name}"')
    return builder.finish()


def _tag(builder: _Builder, tag: re.Match[str], at: int) -> None:
    closing, name = tag[1], tag[2].lower()
    if not closing:
        if name not in TAGS:
            raise cannot(f'Unsupported start tag "{name}" at byte offset {at}')
        builder.begin(name, at, _detail(name, tag[3], at))
        return
    if not builder.open:
        raise cannot(f"Unexpected end tag at byte offset {at}")
    opened = builder.open[-1][0]
    if name not in {opened, ""}:
        raise cannot(f'Unmatched end tag at byte offset {at}, expected "</{opened}>", found "</{name}>"')
    detail = builder.open[-1][3]
    if opened == "blockquote" and detail:
        builder.end("expandable_blockquote")
    elif opened == "code" and detail and len(builder.open) > 1 and builder.open[-2][0] == "pre":
        builder.open.pop()  # <pre><code class="language-x">: one entity, with the language
        name, start, begun, _ = builder.open[-1]
        builder.open[-1] = (name, start, begun, detail)
    else:
        builder.end(TAGS[opened])
    if builder.entities and builder.entities[-1][2] in {"expandable_blockquote", "code"}:
        start, length, kind, _ = builder.entities[-1]
        builder.entities[-1] = (start, length, kind, "")


def _detail(name: str, said: str, at: int) -> str:
    """Return the detail in the attributes of a start tag; unknown attributes are ignored."""
    attributes = {found[1].lower(): found[2] or found[3] or found[4] or "" for found in _ATTRIBUTE.finditer(said)}
    match name:
        case "a":
            return attributes.get("href", "")
        case "tg-emoji":
            if not attributes.get("emoji-id", "").isdecimal():
                raise cannot("Invalid custom emoji identifier specified")
            return attributes["emoji-id"]
        case "span":
            if attributes.get("class") != "tg-spoiler":
                raise cannot(f'Tag "span" must have class "tg-spoiler" at byte offset {at}')
        case "blockquote":
            return "expandable" if "expandable" in attributes else ""
        case "code":
            return attributes.get("class", "").removeprefix("language-")
        case _:
            pass
    return ""


def _unescaped(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        """Decode one entity."""
        if found[1]:
            return _NAMED[found[1]]
        code = int(found[2]) if found[2] else int(found[3], 16)
        return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else found[0]

    return _HTML_ENTITY.sub(one, text)


def parse_marks(raw: str, marks: dict[str, str], *, version: int) -> Parsed:
    """Parse Markdown or MarkdownV2."""
    builder = _Builder()
    at = 0
    while at < len(raw):
        at = _step(builder, raw, at, marks, version)
    if builder.open:
        name, _, start, _ = builder.open[-1]
        kind = f"{marks.get(name, 'text_link')} entity".replace("_", "").title() if version == 2 else "the entity"
        kind = kind.replace("Entity", "entity")
        raise cannot(f"Can't find end of {kind} {'starting at' if version == 1 else 'at'} byte offset {start}")
    return builder.finish()


def _step(builder: _Builder, raw: str, at: int, marks: dict[str, str], version: int) -> int:
    """Read one mark or character. Returns the position after it."""
    if raw[at] == "\\" and at + 1 < len(raw) and _escapable(raw[at + 1], marks, version):
        builder.add(raw[at + 1])
        return at + 2
    verbatim = builder.open[-1][0] if builder.open and builder.open[-1][0].startswith("`") else ""
    if version == 2 and not verbatim and (after := _quote(builder, raw, at)):
        return after
    for mark in sorted(marks, key=len, reverse=True):
        if raw.startswith(mark, at) and verbatim in {"", mark}:
            _toggle(builder, mark, marks[mark], offset(raw, at))
            return at + len(mark)
    if not verbatim:
        link = _link(builder, raw, at)
        if link:
            return link
        if version == 2 and raw[at] in RESERVED:
            raise cannot(f"Character '{raw[at]}' is reserved and must be escaped with the preceding '\\'")
    builder.add(raw[at])
    return at + 1


def _escapable(letter: str, marks: dict[str, str], version: int) -> bool:
    return 0 < ord(letter) <= 126 if version == 2 else letter in marks


def _toggle(builder: _Builder, mark: str, kind: str, at: int) -> None:
    if builder.open and builder.open[-1][0] == mark:
        builder.end(kind)
    else:
        builder.begin(mark, at)


def _link(builder: _Builder, raw: str, at: int) -> int:
    """Read a link's bracket. Returns the position after it, or 0 if there is none."""
    if raw[at] == "[":
        builder.begin("[", offset(raw, at))
        return at + 1
    if raw.startswith("![", at):
        builder.begin("![", offset(raw, at))
        return at + 2
    if raw[at] == "]" and builder.open and builder.open[-1][0] in {"[", "!["}:
        found = _IN_BRACKETS.match(raw, at + 1)
        if found is None:
            raise cannot(f"Can't find end of a URL at byte offset {offset(raw, at)}")
        url = _ESCAPED.sub(r"\1", found[1])
        if builder.open[-1][0] == "![":
            emoji = _EMOJI_URL.fullmatch(url)
            if emoji is None:
                raise cannot("Custom emoji URL must have an emoji identifier")
            builder.end("custom_emoji", emoji[1])
        else:
            builder.end("text_link", url)
        return found.end()
    return 0


def _quote(builder: _Builder, raw: str, at: int) -> int:
    """Read the marks of block quotations: `>` and `**>` at the start of a line, `||` at the end of the quotation."""
    begins = at == 0 or raw[at - 1] == "\n"
    if begins and raw.startswith("**>", at):
        builder.end_quote()
        builder.quote = builder.units
        return at + 3
    if begins and raw[at] == ">":
        if builder.quote is None:
            builder.quote = builder.units
        return at + 1
    if builder.quote is None:
        return 0
    if begins:
        builder.end_quote()
        return 0
    spoiler = any(name == "||" for name, *_ in builder.open)
    if raw.startswith("||", at) and not spoiler and raw[at + 2 : at + 3] in {"", "\n"}:
        builder.end_quote(expandable=True)
        return at + 2
    return 0


def offset(raw: str, at: int) -> int:
    """Convert a position to bytes, in which Telegram counts."""
    return len(raw[:at].encode())


def cannot(detail: str) -> ApiError:
    """Create the error of a text that cannot be parsed."""
    return bad(f"can't parse entities: {detail}")
