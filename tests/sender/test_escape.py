"""Whatever somebody's name holds, it comes out as it was and forges nothing. The sandbox's parser reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telewarm.sandbox.entities import parse
from telewarm.sending.escape import (
    RESERVED,
    SafeText,
    escape_html,
    escape_markdown,
    escape_markdown_code,
    escape_markdown_url,
    html,
    markdown,
)

texts = st.text(max_size=100) | st.text(alphabet="ab *_[]()~`>#+-=|{}.!<&;\"'/", max_size=40)
without_backslash = texts.map(lambda text: text.replace("\\", ""))


@given(texts)
def test_an_escaped_text_comes_out_of_html_as_it_was(text: str) -> None:
    found = parse(escape_html(text), "HTML")
    assert (found.text, found.entities) == (text.rstrip(), ())


@given(without_backslash)
def test_an_escaped_text_comes_out_of_markdown_as_it_was(text: str) -> None:
    found = parse(escape_markdown(text), "MarkdownV2")
    assert (found.text, found.entities) == (text.rstrip(), ())


@given(texts)
def test_a_value_in_html_is_one_bold_text_and_nothing_else(name: str) -> None:
    found = parse(html("<b>{}</b>!", name), "HTML")
    assert found.text == f"{name}!"
    assert [kind for _, _, kind, _ in found.entities] == (["bold"] if name else [])


@given(without_backslash)
def test_a_value_in_markdown_is_one_bold_text_and_nothing_else(name: str) -> None:
    found = parse(markdown("*{}*\\!", name), "MarkdownV2")
    assert found.text == f"{name}!"
    assert [kind for _, _, kind, _ in found.entities] == (["bold"] if name else [])


@given(without_backslash)
def test_code_comes_out_as_it_was(code: str) -> None:
    found = parse(f"`{escape_markdown_code(code)}`\\!", "MarkdownV2")
    assert found.text == f"{code}!"


@pytest.mark.parametrize("character", RESERVED)
def test_each_of_telegrams_eighteen_characters_and_the_backslash_is_escaped(character: str) -> None:
    assert escape_markdown(f"a{character}b") == f"a\\{character}b"
    assert len(RESERVED) == 19


def test_code_and_urls_have_rules_of_their_own() -> None:
    assert escape_markdown_code("a`b\\c*d.") == "a\\`b\\\\c*d."
    assert escape_markdown_url("https://a.b/c_(d)\\e") == "https://a.b/c_(d\\)\\\\e"
    assert escape_html('<a href="x">&') == "&lt;a href=&quot;x&quot;&gt;&amp;"


def test_a_link_keeps_its_url() -> None:
    found = parse(html('<a href="{}">{}</a>', "https://a.b/c_d?e=f", "<here>"), "HTML")
    assert (found.text, found.entities) == ("<here>", ((0, 6, "text_link", "https://a.b/c_d?e=f"),))
    found = parse(markdown("[{}]({})", "[here]", escape_markdown_url("https://a.b/c_d?e=f.g")), "MarkdownV2")
    assert (found.text, found.entities) == ("[here]", ((0, 6, "text_link", "https://a.b/c_d?e=f.g"),))


def test_pieces_that_are_safe_go_in_as_they_are() -> None:
    greeting = html("<i>{name}</i>", name="<Ann>")
    assert isinstance(greeting, SafeText)
    assert html("{} & {}", greeting, "&") == "<i>&lt;Ann&gt;</i> & &amp;"
    assert markdown("{0}{1}", SafeText("*x*"), "*y*") == "*x*\\*y\\*"


def test_values_are_formatted_and_then_escaped() -> None:
    assert html("{:.1f} {!r} {x:>4}", 1.25, "<", x="&") == "1.2 &#x27;&lt;&#x27;    &amp;"
    assert markdown("{:.2f}", -1.5) == "\\-1\\.50"
    assert html("{:.3}", SafeText("<b>x</b>")) == "&lt;b&gt;"  # cut, it is safe no more
