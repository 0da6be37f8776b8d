"""Parse modes and their complaints (facts 1.4 and 4.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.sandbox.entities import RESERVED, Parsed, check_caption, parse
from telewarm.sandbox.errors import ApiError
from telewarm.sending.escape import escape_markdown_code, escape_markdown_url


@pytest.mark.parametrize(
    ("raw", "mode", "parsed"),
    [
        ("plain *text*", "", Parsed("plain *text*")),
        ("<b>bold</b> &lt;3", "HTML", Parsed("bold <3", ((0, 4, "bold", ""),))),
        ("😀<i>x</i>", "html", Parsed("😀x", ((2, 1, "italic", ""),))),
        ('<a href="http://a.b/c">x</a>', "HTML", Parsed("x", ((0, 1, "text_link", "http://a.b/c"),))),
        ("<b>a<i>b</i></b>", "HTML", Parsed("ab", ((0, 2, "bold", ""), (1, 1, "italic", "")))),
        ("*a* _b_ __c__ ~d~ ||e|| `f_`", "MarkdownV2", None),
        (r"1\.5 \*x", "MarkdownV2", Parsed("1.5 *x")),
        ("[x](http://a.b/c)", "MarkdownV2", Parsed("x", ((0, 1, "text_link", "http://a.b/c"),))),
        ("*a* 1.5", "Markdown", Parsed("a 1.5", ((0, 1, "bold", ""),))),
    ],
)
def test_a_text_loses_its_marks_and_gains_entities(raw: str, mode: str, parsed: Parsed | None) -> None:
    if parsed is not None:
        assert parse(raw, mode) == parsed
        return
    found = parse(raw, mode)
    assert found.text == "a b c d e f_"
    kinds = ["bold", "italic", "underline", "strikethrough", "spoiler", "code"]
    assert [entity[2] for entity in found.entities] == kinds


EMOJI = "5368324170671202286"


@pytest.mark.parametrize(
    ("raw", "mode", "text", "entities"),
    [
        (f'<tg-emoji emoji-id="{EMOJI}">👍</tg-emoji>', "HTML", "👍", [(0, 2, "custom_emoji", EMOJI)]),
        (f"![👍](tg://emoji?id={EMOJI})", "MarkdownV2", "👍", [(0, 2, "custom_emoji", EMOJI)]),
        ('<span class="tg-spoiler">a</span>', "HTML", "a", [(0, 1, "spoiler", "")]),
        ("<blockquote>a</blockquote>", "HTML", "a", [(0, 1, "blockquote", "")]),
        ("<blockquote expandable>a</blockquote>", "HTML", "a", [(0, 1, "expandable_blockquote", "")]),
        ('<pre><code class="language-py">a</code></pre>', "HTML", "a", [(0, 1, "pre", "py")]),
        ('<a href="https://a.b/?c=>">x</a></b>'[:-4], "HTML", "x", [(0, 1, "text_link", "https://a.b/?c=>")]),
        ("a&nbsp;b &copy; &#128512; &quot;", "HTML", 'a&nbsp;b &copy; 😀 "', []),
        (">a\n>b\nc", "MarkdownV2", "a\nb\nc", [(0, 4, "blockquote", "")]),
        (">a\n**>b||", "MarkdownV2", "a\nb", [(0, 2, "blockquote", ""), (2, 1, "expandable_blockquote", "")]),
        (">*a* ||b||\nc", "MarkdownV2", "a b\nc", None),
        (r"[x](https://a.b/\(c\))", "MarkdownV2", "x", [(0, 1, "text_link", "https://a.b/(c)")]),
        (r"`a\`b`", "MarkdownV2", "a`b", [(0, 3, "code", "")]),
    ],
)
def test_markup_is_read_as_telegram_reads_it(
    raw: str, mode: str, text: str, entities: list[tuple[int, int, str, str]] | None
) -> None:
    parsed = parse(raw, mode)
    assert parsed.text == text
    if entities is not None:
        assert list(parsed.entities) == entities


@pytest.mark.parametrize(
    ("raw", "mode", "detail"),
    [
        ("<span>x</span>", "HTML", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
        ("<tg-emoji>x</tg-emoji>", "HTML", "Invalid custom emoji identifier specified"),
        ("a > b", "MarkdownV2", "Character '>' is reserved and must be escaped with the preceding '\\'"),
        ("a-b", "MarkdownV2", "Character '-' is reserved and must be escaped with the preceding '\\'"),
        ("é *b", "Markdown", "Can't find end of the entity starting at byte offset 3"),
        ("a *b", "MarkdownV2", "Can't find end of Bold entity at byte offset 2"),
        ("<b", "HTML", "Unclosed start tag at byte offset 0"),
        ("<b>x", "HTML", 'Can\'t find end tag corresponding to start tag "b"'),
        ("x</b>", "HTML", "Unexpected end tag at byte offset 1"),
        ("<b>x</i>", "HTML", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("<blink>x", "HTML", 'Unsupported start tag "blink" at byte offset 0'),
        ("[x]", "MarkdownV2", "Can't find end of a URL at byte offset 2"),
    ],
)
def test_a_broken_text_is_refused_in_telegrams_words(raw: str, mode: str, detail: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(raw, mode)
    assert caught.value.description == f"Bad Request: can't parse entities: {detail}"


@given(st.text(max_size=60))
def test_urls_and_code_that_telewarm_escapes_are_read_back(text: str) -> None:
    assert parse(f"[x]({escape_markdown_url(text)})", "MarkdownV2").entities[0][3] == text
    assert parse(f"`{escape_markdown_code('x' + text + 'x')}`", "MarkdownV2").text == f"x{text}x"


@given(st.text(max_size=200))
def test_an_escaped_text_comes_out_as_it_was(text: str) -> None:
    escaped = "".join(f"\\{char}" if char in RESERVED else char for char in text if char != "\\")
    assert parse(escaped, "MarkdownV2").text == text.replace("\\", "").rstrip()


@given(st.text(alphabet="ab<>/*_`[]()\\&; ", max_size=60), st.sampled_from(["HTML", "Markdown", "MarkdownV2"]))
def test_any_text_is_either_parsed_or_refused(raw: str, mode: str) -> None:
    try:
        parsed = parse(raw, mode)
    except ApiError:
        return
    assert len(parsed.text) <= len(raw)


def test_a_caption_has_1024_characters_after_parsing() -> None:
    check_caption(parse("<b>" + "é" * 1024 + "</b>", "HTML"))
    with pytest.raises(ApiError, match="message caption is too long"):
        check_caption(parse("é" * 1025, ""))
